package segment

import (
	"regexp/syntax"
)

// An expression that is matched on lines need not be matched on whole ones: a match holds
// bytes of the expression's alphabet only, so it lies between two bytes of the line that
// are not in it. Where such bytes stand in literals is the same for all lines of a
// template: they cut it into windows, and a line matches if one of its windows does.

// alphabet returns the bytes that a match of an expression can hold; ok is false if a match
// depends on what is around it, as with anchors.
func alphabet(re *syntax.Regexp) (m byteMask, ok bool) {
	switch re.Op {
	case syntax.OpNoMatch, syntax.OpEmptyMatch:
		return m, true
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			m.addRune(r)
			if re.Flags&syntax.FoldCase != 0 {
				m.addFolds(r)
			}
		}
		return m, true
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1] && r <= 0x80; r++ {
				m.addRune(r)
			}
			if re.Rune[i+1] >= 0x80 {
				m.addRune(0x80)
			}
		}
		return m, true
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return allMask, true
	case syntax.OpCapture, syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat, syntax.OpConcat, syntax.OpAlternate:
		for _, sub := range re.Sub {
			s, ok := alphabet(sub)
			if !ok {
				return m, false
			}
			m = m.or(s)
		}
		return m, true
	}
	return m, false
}

func (m *byteMask) addRune(r rune) {
	if r >= 0x80 {
		r = 0x80
	}
	m.add(byte(r))
}

// addFolds adds what else a letter matches in either case. Some fold to letters beyond
// ASCII, and some from there.
func (m *byteMask) addFolds(r rune) {
	switch {
	case r >= 'a' && r <= 'z':
		m.addRune(r - 'a' + 'A')
	case r >= 'A' && r <= 'Z':
		m.addRune(r - 'A' + 'a')
	case r < 0x80:
		return
	default:
		for _, c := range "kKsS" {
			m.addRune(c)
		}
	}
	m.addRune(0x80)
}

// A window is a part of a template, as a template of its own: slots from `first` on.
type window struct {
	first    int
	template *Template
}

// windows cuts a template for a filter of expressions. known is false if whole lines must be
// looked at; all: every line matches.
func (p *filterPlan) windows(t *Template, v *planView) (list []window, all, known bool) {
	if !p.local || len(p.filter.res) == 0 {
		return nil, false, false
	}
	if p.filter.confirms(nil) {
		return nil, true, true // as it matches the empty text, and so everywhere
	}
	w := window{template: &Template{}}
	end := func(last []byte) {
		w.template.literals = append(w.template.literals, last)
		if !all {
			all = p.close(&w, v, &list)
		}
	}
	for i, l := range t.literals {
		a, b := 0, len(l)
		for a < len(l) && p.alphabet.has(l[a]) {
			a++
		}
		for b > a && p.alphabet.has(l[b-1]) {
			b--
		}
		if a < len(l) {
			end(l[:a])
			all = all || p.filter.confirms(l[a:b])
			w = window{first: i, template: &Template{}}
			l = l[b:]
		}
		if i < t.slots() {
			w.template.literals = append(w.template.literals, l)
			w.template.kinds = append(w.template.kinds, t.kinds[i])
		} else {
			end(l)
		}
	}
	return list, all, true
}

// close appends a window if a match can be in it. It reports whether one is in every line.
func (p *filterPlan) close(w *window, v *planView, list *[]window) (all bool) {
	t := w.template
	if len(t.kinds) == 0 {
		return p.filter.confirms(t.literals[0])
	}
	for _, l := range t.literals {
		t.key = append(append(t.key, l...), 0) // what planNeedle.in looks for literals in
	}
	part := *v
	part.first, part.kinds = v.first+w.first, t.kinds
	for i := range p.required {
		if p.required[i].in(t, &part).verdict == verdictNone {
			return false
		}
	}
	*list = append(*list, *w)
	return false
}

// keepWindows clears keep where no window matches or, for a negative filter, where one does.
func (r *blockReader) keepWindows(t *blockTemplate, p *filterPlan, windows []window, keep []bool, timeOf func(i int) int64) error {
	passes := make([]bool, len(keep))
	for i := range windows {
		if err := r.matchWindow(t, p, &windows[i], keep, passes, timeOf); err != nil {
			return err
		}
	}
	for i := range keep {
		keep[i] = keep[i] && passes[i] != p.negative
	}
	return nil
}

// matchWindow sets passes[i] where the window of row i, of those to be kept, matches.
func (r *blockReader) matchWindow(t *blockTemplate, p *filterPlan, w *window, keep, passes []bool, timeOf func(i int) int64) error {
	columns := t.columns[w.first : w.first+len(w.template.kinds)]
	times := false
	for k := range columns {
		if err := r.columns.load(t, &columns[k]); err != nil {
			return err
		}
		times = times || columns[k].format == formatTime
	}
	if times {
		if err := r.loadIDs(); err != nil {
			return err
		}
		if err := r.loadTimes(); err != nil {
			return err
		}
	}
	var text []byte
	match := func(i int) bool {
		ts := int64(0)
		if times {
			ts = timeOf(i)
		}
		text = text[:0]
		for k := range columns {
			text = append(text, w.template.literals[k]...)
			text = columns[k].append(text, i, ts)
		}
		return p.filter.matches(append(text, w.template.literals[len(columns)]...))
	}
	// Of values out of a dictionary each is looked at once.
	var known []int8
	if len(columns) == 1 && (columns[0].encoding == columnDict || columns[0].encoding == columnConst) {
		known = make([]int8, len(columns[0].entries))
	}
	for i, k := range keep {
		if !k || passes[i] {
			continue
		}
		if known == nil {
			passes[i] = match(i)
			continue
		}
		id := uint32(0)
		if columns[0].encoding == columnDict {
			id = columns[0].ids[i]
		}
		if known[id] == 0 {
			known[id] = 1
			if match(i) {
				known[id] = 2
			}
		}
		passes[i] = known[id] == 2
	}
	return nil
}
