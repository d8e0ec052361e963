package segment

import "context"

// A FrameUnit is a DATA record of the tail that no block holds yet.
type FrameUnit struct {
	Header  Header
	Streams []*Stream // that the payload defines; nil if they are not known yet
	// Load reads the payload.
	Load func() ([]byte, error)
	// Intern is FrameDecoder.Intern.
	Intern func(key []byte) (*Stream, error)
}

// Bounds returns the smallest and largest timestamp of the frame.
func (u *FrameUnit) Bounds() (int64, int64) { return u.Header.MinTimestamp, u.Header.MaxTimestamp }

// decode returns nil if none of the frame's streams matches.
func (u *FrameUnit) decode(matches func(*Stream) bool) (*Data, error) {
	wanted := u.Streams == nil
	for _, s := range u.Streams {
		wanted = wanted || matches(s)
	}
	if !wanted {
		return nil, nil
	}
	payload, err := u.Load()
	if err != nil {
		return nil, err
	}
	// A decoder of its own: the entries alias its memory.
	return (&FrameDecoder{Intern: u.Intern}).Decode(&u.Header, payload)
}

// each calls f for the rows that q asks for.
func (u *FrameUnit) each(q *Query, d *Data, matches func(*Stream) bool, f func(s *Stream, row int)) {
	row := 0
	for _, run := range d.Runs {
		s := d.Streams[run.Stream]
		end := row + int(run.Count)
		if matches(s) {
			scanLines(q.Filters, d.Text, d.Ends, row, end, func(i int) {
				if t := d.Timestamps[i]; t >= q.Start && t < q.End {
					f(s, i)
				}
			})
		}
		row = end
	}
}

// Select implements Unit.
func (u *FrameUnit) Select(ctx context.Context, q *Query) ([]Entry, error) {
	d, err := u.decode(q.MatchesStream)
	if d == nil || err != nil {
		return nil, err
	}
	c := collector{q: q}
	cache := newStreamCache(q)
	var row PipelineRow
	u.each(q, d, cache.matches, func(s *Stream, i int) {
		e := Entry{Timestamp: d.Timestamps[i], Stream: s, Line: d.Line(i), Offset: u.Header.Offset + uint64(i)}
		if d.Metadata != nil {
			e.Metadata = d.Metadata[i]
		}
		if q.Pipeline != nil {
			if !q.Pipeline.Run(&row, s, e.Metadata, e.Line) {
				return
			}
			e.Parsed = row.Parsed()
		}
		c.add(e)
	})
	return c.result(), ctx.Err()
}

// Aggregate implements Unit.
func (u *FrameUnit) Aggregate(ctx context.Context, q *Query, a *Aggregation, p *Partial) error {
	return u.aggregate(ctx, q, newSums(q, a, p))
}

func (u *FrameUnit) aggregate(ctx context.Context, q *Query, s *sums) error {
	d, err := u.decode(s.matches)
	if d == nil || err != nil {
		return err
	}
	s.begin()
	u.each(q, d, s.matches, func(stream *Stream, i int) {
		if s.rows != nil {
			var metadata Labels
			if d.Metadata != nil {
				metadata = d.Metadata[i]
			}
			s.rows.add(stream, d.Timestamps[i], metadata, d.Line(i))
			return
		}
		value := uint64(1)
		if s.a.Measure == MeasureBytes {
			value = uint64(len(d.Line(i)))
		}
		s.entry(stream, d.Timestamps[i], value)
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.commit()
}

// EachStream implements Unit. It reads the payload if the streams are not known.
func (u *FrameUnit) EachStream(_ *Query, f func(*Stream) bool) error {
	streams := u.Streams
	if streams == nil {
		d, err := u.decode(nil)
		if err != nil {
			return err
		}
		streams = d.Streams
	}
	for _, s := range streams {
		if !f(s) {
			return nil
		}
	}
	return nil
}
