package segment

import (
	"bytes"
	"context"
)

// A FrameUnit is a DATA record of the tail that no block holds yet.
type FrameUnit struct {
	Header  Header
	Streams []*Stream // that the payload defines; nil if they are not known yet
	// Load reads the payload, into memory that nobody changes afterwards: entries alias it.
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
	// A decoder of its own, since entries alias its memory.
	return (&FrameDecoder{Intern: u.Intern}).Decode(&u.Header, payload)
}

// each calls f for the rows that q asks for, with their streams as numbers of d.Streams.
func (u *FrameUnit) each(q *Query, d *Data, matches func(*Stream) bool, f func(stream uint32, row int)) {
	row := 0
	for _, run := range d.Runs {
		end := row + int(run.Count)
		if matches(d.Streams[run.Stream]) {
			scanLines(q.Filters, d.Text, d.Ends, row, end, func(i int) {
				if t := d.Timestamps[i]; t >= q.Start && t < q.End {
					f(run.Stream, i)
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
	cache := newStreamCache(q)
	if q.Pipeline != nil {
		return u.selectRows(ctx, q, d, cache)
	}
	c := firstHits(q)
	u.each(q, d, cache.matches, func(stream uint32, row int) {
		c.add(hit{d.Timestamps[row], u.Header.Offset + uint64(row), uint32(row), stream})
	})
	hits := c.result()
	entries := make([]Entry, len(hits))
	for i, h := range hits {
		e := &entries[i]
		*e = Entry{Timestamp: h.timestamp, Stream: d.Streams[h.run], Line: d.Line(int(h.row)), Offset: h.offset}
		if d.Metadata != nil {
			e.Metadata = d.Metadata[h.row]
		}
		if q.few() {
			e.Line, e.Metadata = bytes.Clone(e.Line), e.Metadata.own()
		}
	}
	return entries, ctx.Err()
}

// selectRows is Select for queries with a pipeline.
func (u *FrameUnit) selectRows(ctx context.Context, q *Query, d *Data, cache streamCache) ([]Entry, error) {
	c := firstEntries(q)
	var row PipelineRow
	u.each(q, d, cache.matches, func(stream uint32, i int) {
		e := Entry{Timestamp: d.Timestamps[i], Stream: d.Streams[stream], Line: d.Line(i), Offset: u.Header.Offset + uint64(i)}
		if d.Metadata != nil {
			e.Metadata = d.Metadata[i]
		}
		if q.Pipeline.Run(&row, e.Stream, e.Metadata, e.Line) {
			e.Parsed = row.Parsed()
			e.Line, e.Metadata = bytes.Clone(e.Line), e.Metadata.own()
			c.add(e)
		}
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
	u.each(q, d, s.matches, func(stream uint32, i int) {
		if s.rows != nil {
			var metadata Labels
			if d.Metadata != nil {
				metadata = d.Metadata[i]
			}
			s.rows.add(d.Streams[stream], d.Timestamps[i], metadata, d.Line(i))
			return
		}
		value := uint64(1)
		if s.a.Measure == MeasureBytes {
			value = uint64(len(d.Line(i)))
		}
		s.entry(d.Streams[stream], d.Timestamps[i], value)
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
