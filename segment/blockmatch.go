package segment

import "context"

// A lineSearch is the line filters of one query, with what was decided for templates. It
// serves the blocks of one shard one after the other and is for one goroutine.
type lineSearch struct {
	q     *Query
	plans []*filterPlan
	rules map[*Template][]rule
}

func newLineSearch(q *Query) *lineSearch {
	s := &lineSearch{q: q, rules: map[*Template][]rule{}}
	for _, f := range q.Filters {
		s.plans = append(s.plans, planFilter(f))
	}
	return s
}

// rulesOf returns what the filters say of a template: nil if one of them lets no line
// pass, an empty list if all let all lines pass, else the rules that are left.
func (s *lineSearch) rulesOf(t *Template) []rule {
	if r, ok := s.rules[t]; ok {
		return r
	}
	rules := make([]rule, len(s.plans))
	open := false
	for i, p := range s.plans {
		rules[i] = p.decide(t)
		if rules[i].verdict == verdictNone {
			s.rules[t] = nil
			return nil
		}
		open = open || rules[i].verdict != verdictAll
	}
	if !open {
		rules = []rule{}
	}
	s.rules[t] = rules
	return rules
}

// A templateMatch is which rows of a template pass the filters.
type templateMatch struct {
	verdict verdict // verdictNone, verdictAll or verdictSome
	rows    []bool  // verdictSome: by rank
}

// A blockMatch is which rows of a block pass the filters.
type blockMatch struct {
	reader              *blockReader
	templates           []templateMatch // by local template
	bare                []bool          // of the rows without a template, by rank; nil: all of them
	everything, nothing bool
}

// match finds the rows of the runs that pass the line filters, without regard to time.
// Of other rows nothing is said.
func (r *blockReader) match(ctx context.Context, s *lineSearch, runs []*BlockRun) (*blockMatch, error) {
	m := &blockMatch{reader: r, everything: len(s.plans) == 0}
	if m.everything {
		return m, nil
	}
	meta := r.block.Meta
	m.templates = make([]templateMatch, len(meta.Templates))
	m.nothing = true
	present, err := r.present(runs)
	if err != nil {
		return nil, err
	}
	var open []int
	for i, u := range meta.Templates {
		if present != nil && !present[i] {
			continue // its verdict is verdictNone
		}
		rules := s.rulesOf(r.block.file.templates[u.ID])
		switch {
		case rules == nil:
			m.templates[i].verdict = verdictNone
		case len(rules) == 0:
			m.templates[i].verdict = verdictAll
			m.nothing = false
		default:
			m.templates[i].verdict = verdictSome
			open = append(open, i)
		}
	}
	for _, i := range open {
		if err := r.matchTemplate(ctx, s, m, i, runs); err != nil {
			return nil, err
		}
		m.nothing = m.nothing && m.templates[i].verdict == verdictNone
	}
	if err := r.matchBare(ctx, s, m); err != nil {
		return nil, err
	}
	return m, nil
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
	if err := r.rank(); err != nil {
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
	rules := s.rulesOf(r.block.file.templates[r.block.Meta.Templates[local].ID])
	if err := r.open(); err != nil {
		return err
	}
	timeOf := func(i int) int64 { return r.times[r.rowsOf(local)[i]] }
	t, err := r.columns.columnsOf(local)
	if err != nil {
		return err
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
			checks = append(checks, p.filter)
			for _, alternatives := range rules[i].required {
				if err := r.keepAny(t, p, alternatives, keep, timeOf); err != nil {
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

// keepAny clears keep where none of the alternatives holds or, for a negative filter,
// where one does.
func (r *blockReader) keepAny(t *blockTemplate, p *filterPlan, alternatives [][]slotCondition, keep []bool, timeOf func(i int) int64) error {
	passes := make([]bool, len(keep))
	one := make([]bool, len(keep))
	for _, conditions := range alternatives {
		copy(one, keep)
		for i := range conditions {
			if t.columns[conditions[i].slot].format == formatTime {
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
	n := uint32(0)
	for _, ref := range r.fallback {
		n += ref.Rows
	}
	m.bare = make([]bool, n)
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

// keeps reports whether a row passes. The reader must be open unless everything passes.
func (m *blockMatch) keeps(row int) bool {
	if m.everything {
		return true
	}
	r := m.reader
	if r.ids == nil || r.ids[row] == fallbackID {
		return m.bare[r.ranks[row]]
	}
	switch t := &m.templates[r.ids[row]]; t.verdict {
	case verdictAll:
		return true
	case verdictSome:
		return t.rows[r.ranks[row]]
	}
	return false
}
