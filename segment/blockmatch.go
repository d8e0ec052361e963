package segment

import (
	"context"
	"slices"
	"sync"
)

// A lineSearch is the line filters of one query, with what was decided for templates. It
// serves all units that the query reads.
type lineSearch struct {
	q     *Query
	plans []*filterPlan

	mu       sync.Mutex
	segments map[*Template]*segmentPlan // by the segment's first template; guarded by mu
}

func newLineSearch(q *Query) *lineSearch {
	s := &lineSearch{q: q}
	for _, f := range q.Filters {
		s.plans = append(s.plans, planFilter(f))
	}
	return s
}

// plan returns what is decided for the segment of a file.
func (s *lineSearch) plan(file *blockFile) *segmentPlan {
	var first *Template
	if len(file.templates) > 0 {
		first = file.templates[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.segments[first]
	if p == nil || first == nil { // without templates there is nothing to be remembered
		p = &segmentPlan{filter: file.filter, plans: s.plans}
		if s.segments == nil {
			s.segments = map[*Template]*segmentPlan{}
		}
		s.segments[first] = p
	}
	return p
}

// A templateMatch is which rows of a template pass the filters.
type templateMatch struct {
	verdict verdict // verdictNone, verdictAll or verdictSome
	rows    []bool  // verdictSome: by rank
	rules   []rule  // verdictSome
}

// A blockMatch is which rows of a block pass the filters.
type blockMatch struct {
	reader              *blockReader
	templates           []templateMatch // by local template
	bare                []bool          // of the rows without a template, by rank
	everything, nothing bool
}

// match finds the rows of the runs that pass the line filters, without regard to time.
// Of other rows nothing is said.
func (r *blockReader) match(ctx context.Context, s *lineSearch, runs []*BlockRun) (*blockMatch, error) {
	m := &blockMatch{reader: r, everything: len(s.plans) == 0}
	if m.everything {
		return m, nil
	}
	open, bare, err := m.decide(s.plan(r.block.file))
	if err != nil || m.nothing {
		return m, err
	}
	if open > 0 {
		present, err := r.present(runs)
		if err != nil {
			return nil, err
		}
		for i := range m.templates {
			t := &m.templates[i]
			switch {
			case t.verdict != verdictSome:
			case present != nil && !present[i]:
				t.verdict = verdictNone
			default:
				if err := r.matchTemplate(ctx, s, m, i, runs); err != nil {
					return nil, err
				}
			}
		}
	}
	m.bare = make([]bool, r.bareRows())
	m.nothing = !slices.ContainsFunc(m.templates, func(t templateMatch) bool { return t.verdict != verdictNone })
	if bare {
		return m, r.matchBare(ctx, s, m)
	}
	return m, nil
}

// decide fills in what the segment's plan says of the block's templates: how many of them
// are open, and whether its lines without one must be looked at.
func (m *blockMatch) decide(p *segmentPlan) (open int, bare bool, err error) {
	block := m.reader.block
	m.nothing = true
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, u := range block.Meta.Templates {
		known, err := p.of(block.file, u.ID)
		if err != nil {
			return 0, false, err
		}
		if known.verdict == verdictNone {
			continue
		}
		if m.nothing {
			m.nothing, m.templates = false, make([]templateMatch, len(block.Meta.Templates))
		}
		m.templates[i] = templateMatch{verdict: known.verdict, rules: known.rules}
		if known.verdict == verdictSome {
			open++
		}
	}
	bare = len(m.reader.fallback) > 0 && !p.noBare()
	if m.nothing && bare {
		m.nothing, m.templates = false, make([]templateMatch, len(block.Meta.Templates))
	}
	return open, bare, nil
}

// bareRows is how many rows have no template.
func (r *blockReader) bareRows() (n uint32) {
	for _, ref := range r.fallback {
		n += ref.Rows
	}
	return n
}

// present returns which templates the rows of the runs have; nil if that may be all.
func (r *blockReader) present(runs []*BlockRun) ([]bool, error) {
	rows := uint32(0)
	for _, run := range runs {
		rows += run.Rows
	}
	if rows > r.block.Meta.Rows/2 || len(r.block.Meta.Templates) == 0 {
		return nil, nil
	}
	if err := r.loadIDs(); err != nil {
		return nil, err
	}
	present := make([]bool, len(r.block.Meta.Templates))
	for _, run := range runs {
		for _, id := range r.ids[run.FirstRow : run.FirstRow+run.Rows] {
			if id != fallbackID {
				present[id] = true
			}
		}
	}
	return present, nil
}

// matchTemplate decides on the rows of a template by its columns, and where these do not
// suffice by its lines.
func (r *blockReader) matchTemplate(ctx context.Context, s *lineSearch, m *blockMatch, local int, runs []*BlockRun) error {
	rules := m.templates[local].rules
	if err := r.openColumns(); err != nil {
		return err
	}
	timeOf := func(i int) int64 { return r.times[r.rowsOf(local)[i]] }
	t, err := r.columns.columnsOf(local)
	if err != nil {
		return err
	}
	if t.passesNone(s.plans, rules) {
		m.templates[local].verdict = verdictNone
		return nil
	}
	keep := make([]bool, t.rows)
	for i := range keep {
		keep[i] = true
	}
	var checks []*LineFilter
	for i := range rules {
		p := s.plans[i]
		switch rules[i].verdict {
		case verdictCheck:
			if len(rules[i].windows) == 0 {
				checks = append(checks, p.filter)
			}
			for _, alternatives := range rules[i].required {
				if err := r.keepAny(t, p, alternatives, keep, timeOf); err != nil {
					return err
				}
			}
			if windows := rules[i].windows; len(windows) > 0 {
				if err := r.keepWindows(t, p, windows, keep, timeOf); err != nil {
					return err
				}
			}
		case verdictSome:
			if err := r.keepAny(t, p, rules[i].alternatives, keep, timeOf); err != nil {
				return err
			}
		}
	}
	some, all := summary(keep)
	if some && len(checks) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.open(); err != nil {
			return err
		}
		if err := r.loadTimes(); err != nil {
			return err
		}
		var line []byte
		for i, row := range r.rowsOf(local) {
			if !keep[i] {
				continue
			}
			if !wantsRow(runs, int(row)) {
				keep[i] = false
				continue
			}
			if line, err = r.append(line[:0], int(row)); err != nil {
				return err
			}
			for _, f := range checks {
				keep[i] = keep[i] && f.Keeps(line)
			}
		}
		some, all = summary(keep)
	}
	switch {
	case all:
		m.templates[local].verdict = verdictAll
	case !some:
		m.templates[local].verdict = verdictNone
	default:
		m.templates[local].rows = keep
	}
	return nil
}

func summary(keep []bool) (some, all bool) {
	all = true
	for _, k := range keep {
		some = some || k
		all = all && k
	}
	return some, all
}

// passesNone reports that the columns' directory alone rules all rows out.
func (t *blockTemplate) passesNone(plans []*filterPlan, rules []rule) bool {
	may := func(alternatives [][]slotCondition) bool {
		return slices.ContainsFunc(alternatives, func(conditions []slotCondition) bool {
			for i := range conditions {
				if c := &conditions[i]; !t.columns[c.slot].mayHold(c) {
					return false
				}
			}
			return true
		})
	}
	for i := range rules {
		if plans[i].negative {
			continue
		}
		if rules[i].verdict == verdictSome && !may(rules[i].alternatives) {
			return true
		}
		for _, alternatives := range rules[i].required {
			if !may(alternatives) {
				return true
			}
		}
	}
	return false
}

// keepAny clears keep where none of the alternatives holds or, for a negative filter,
// where one does.
func (r *blockReader) keepAny(t *blockTemplate, p *filterPlan, alternatives [][]slotCondition, keep []bool, timeOf func(i int) int64) error {
	passes := make([]bool, len(keep))
	one := make([]bool, len(keep))
	for _, conditions := range alternatives {
		copy(one, keep)
		for i := range conditions {
			if col := &t.columns[conditions[i].slot]; col.format == formatTime && col.mayHold(&conditions[i]) {
				if err := r.loadIDs(); err != nil {
					return err
				}
				if err := r.loadTimes(); err != nil {
					return err
				}
			}
			if err := r.columns.filter(t, &conditions[i], one, timeOf); err != nil {
				return err
			}
		}
		for i, k := range one {
			passes[i] = passes[i] || k
		}
	}
	for i := range keep {
		keep[i] = keep[i] && passes[i] != p.negative
	}
	return nil
}

// matchBare decides on the rows without a template by their lines.
func (r *blockReader) matchBare(ctx context.Context, s *lineSearch, m *blockMatch) error {
	for k, ref := range r.fallback {
		if err := ctx.Err(); err != nil {
			return err
		}
		l, err := r.bareChunk(k)
		if err != nil {
			return err
		}
		scanLines(s.q.Filters, l.text, l.ends, 0, len(l.ends), func(i int) {
			m.bare[int(ref.FirstRow)+i] = true
			m.nothing = false
		})
	}
	return nil
}

// each calls f with the rows of the runs that pass, in block order.
func (m *blockMatch) each(runs []*BlockRun, f func(run *BlockRun, row int) error) error {
	if m.everything {
		for _, run := range runs {
			for row := int(run.FirstRow); row < int(run.FirstRow+run.Rows); row++ {
				if err := f(run, row); err != nil {
					return err
				}
			}
		}
		return nil
	}
	r := m.reader
	if err := r.loadIDs(); err != nil {
		return err
	}
	ranks := make([]uint32, len(m.templates)) // of the next row of each template
	bare := 0
	for i := range r.block.Meta.Runs {
		run := &r.block.Meta.Runs[i]
		if len(runs) == 0 {
			break // ranks are of no use any more
		}
		wanted := run == runs[0]
		if wanted {
			runs = runs[1:]
		}
		for row := int(run.FirstRow); row < int(run.FirstRow+run.Rows); row++ {
			id := uint16(fallbackID)
			if r.ids != nil {
				id = r.ids[row]
			}
			passes := false
			if id == fallbackID {
				passes = m.bare[bare]
				bare++
			} else {
				t := &m.templates[id]
				switch t.verdict {
				case verdictNone:
					continue
				case verdictAll:
					passes = true
				case verdictSome:
					passes = t.rows[ranks[id]]
					ranks[id]++
				}
			}
			if passes && wanted {
				if err := f(run, row); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// count returns how many rows of the block pass. All of its runs must have been matched.
func (m *blockMatch) count() (n uint64) {
	for i, u := range m.reader.block.Meta.Templates {
		switch t := &m.templates[i]; t.verdict {
		case verdictAll:
			n += uint64(u.Rows)
		case verdictSome:
			for _, k := range t.rows {
				if k {
					n++
				}
			}
		}
	}
	for _, k := range m.bare {
		if k {
			n++
		}
	}
	return n
}
