package segment

import (
	"bytes"
	"regexp/syntax"
	"strings"
)

// For each line filter and template it is decided once, from the literals alone, whether
// all lines of the template pass, none, or those whose values satisfy some conditions.
// Most filters are decided for nearly all templates without a look at any row.

// A rule is what is known of a filter and a template.
type rule struct {
	verdict verdict
	// alternatives, for verdictSome: a line passes if all conditions of one of them hold.
	alternatives [][]slotCondition
	// required, for verdictCheck of a filter that is not negative: of each of them one
	// alternative must hold, or the line need not be looked at.
	required [][][]slotCondition
	// windows, for verdictCheck: if there are any, one of them must match, and no more of
	// the line need be looked at.
	windows []window
}

type verdict uint8

const (
	verdictNone  verdict = iota // no line passes
	verdictAll                  // every line passes
	verdictSome                 // alternatives decide
	verdictCheck                // the line itself must be looked at
)

// A slotCondition is a condition on the value of a slot.
type slotCondition struct {
	slot int
	kind conditionKind
	text []byte
	fold bool // ASCII letters match in either case; text is in lower case
}

type conditionKind uint8

const (
	valueContains conditionKind = iota
	valueBegins
	valueEnds
	valueEquals
)

// maxAlternatives bounds a rule; a filter that can match in more ways looks at the lines.
const maxAlternatives = 24

// A filterPlan is a line filter prepared for templates.
type filterPlan struct {
	filter   *LineFilter
	negative bool
	needles  []planNeedle // alternatives: exact if `exact`
	exact    bool         // the needles alone decide
	// required, of a regular expression that the needles do not decide: each must be in a
	// line that matches.
	required []planNeedle
	// alphabet, of expressions: what matches hold. local: nothing around them counts.
	alphabet byteMask
	local    bool
}

// A planNeedle is a text to be found.
type planNeedle struct {
	text []byte
	fold bool     // ASCII letters match in either case; text is in lower case
	mask byteMask // of the text
	// places of each byte: bit i for text[i], if the text has no more than 64 bytes.
	places *[256]uint64
}

func newPlanNeedle(text []byte, fold bool) planNeedle {
	n := planNeedle{text: text, fold: fold, mask: maskOf(text)}
	if len(text) > 0 && len(text) <= 64 {
		n.places = &[256]uint64{}
		for i, c := range text {
			n.places[c] |= 1 << i
		}
	}
	return n
}

// at returns the places of a byte of a line in the needle, as bits; all if they are not
// known.
func (n *planNeedle) at(c byte) uint64 {
	if n.places == nil {
		return ^uint64(0)
	}
	if n.fold {
		c = lower(c)
	}
	return n.places[c]
}

func planFilter(f *LineFilter) *filterPlan {
	p := &filterPlan{filter: f, negative: f.Type == MatchNotEqual || f.Type == MatchNotRegexp, exact: true, local: true}
	for _, value := range f.Values {
		if f.Type == MatchEqual || f.Type == MatchNotEqual {
			p.needles = append(p.needles, newPlanNeedle([]byte(value), false))
			continue
		}
		parsed, err := syntax.Parse(value, syntax.Perl)
		if err != nil {
			p.exact, p.local = false, false
			continue
		}
		parsed = parsed.Simplify()
		letters, local := alphabet(parsed)
		p.alphabet, p.local = p.alphabet.or(letters), p.local && local
		if needles, ok := literalsOf(parsed); ok {
			p.needles = append(p.needles, needles...)
			continue
		}
		p.exact = false
		if len(f.Values) == 1 {
			p.required = requiredOf(parsed)
		}
	}
	return p
}

// literalsOf returns the texts of an expression that is nothing but alternatives of texts.
func literalsOf(re *syntax.Regexp) ([]planNeedle, bool) {
	switch re.Op {
	case syntax.OpLiteral:
		n, ok := needleOf(re)
		return []planNeedle{n}, ok
	case syntax.OpCapture:
		return literalsOf(re.Sub[0])
	case syntax.OpAlternate:
		var all []planNeedle
		for _, sub := range re.Sub {
			n, ok := literalsOf(sub)
			if !ok {
				return nil, false
			}
			all = append(all, n...)
		}
		return all, true
	}
	return nil, false
}

func needleOf(re *syntax.Regexp) (planNeedle, bool) {
	s := string(re.Rune)
	if re.Flags&syntax.FoldCase == 0 {
		return newPlanNeedle([]byte(s), false), !strings.ContainsRune(s, '\uFFFD')
	}
	for i := range len(s) {
		// Some letters fold to others beyond ASCII: k to the Kelvin sign, s to the long s.
		if c := s[i]; c >= 0x80 || c == 'k' || c == 'K' || c == 's' || c == 'S' {
			return planNeedle{}, false
		}
	}
	return newPlanNeedle([]byte(strings.ToLower(s)), true), true
}

// requiredOf returns texts that every match of an expression contains.
func requiredOf(re *syntax.Regexp) []planNeedle {
	switch re.Op {
	case syntax.OpLiteral:
		if n, ok := needleOf(re); ok {
			return []planNeedle{n}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return requiredOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return requiredOf(re.Sub[0])
		}
	case syntax.OpConcat:
		var all []planNeedle
		for _, sub := range re.Sub {
			all = append(all, requiredOf(sub)...)
		}
		return all
	}
	return nil
}

// decide applies the plan to a template, by what is known of its values.
func (p *filterPlan) decide(t *Template, known *planView) rule {
	r := p.positive(t, known)
	if !p.negative {
		return r
	}
	switch r.verdict {
	case verdictNone:
		r.verdict = verdictAll
	case verdictAll:
		r.verdict = verdictNone
	}
	return r // alternatives and checks are negated where they are evaluated
}

func (p *filterPlan) positive(t *Template, known *planView) rule {
	if !p.exact {
		// A match inside a literal would decide, but anchors and boundaries look further.
		out := rule{verdict: verdictCheck}
		for i := range p.required {
			switch r := p.required[i].in(t, known); r.verdict {
			case verdictNone:
				return r
			case verdictSome:
				if !p.negative {
					out.required = append(out.required, r.alternatives)
				}
			}
		}
		windows, all, known := p.windows(t, known)
		switch {
		case all:
			return rule{verdict: verdictAll}
		case known && len(windows) == 0:
			return rule{verdict: verdictNone}
		}
		out.windows = windows
		return out
	}
	out := rule{verdict: verdictNone}
	for i := range p.needles {
		switch r := p.needles[i].in(t, known); r.verdict {
		case verdictAll, verdictCheck:
			return r
		case verdictSome:
			out.verdict = verdictSome
			out.alternatives = append(out.alternatives, r.alternatives...)
		}
	}
	if len(out.alternatives) > maxAlternatives {
		return rule{verdict: verdictCheck}
	}
	return out
}

// in finds where in lines of a template the needle can stand.
func (n *planNeedle) in(t *Template, known *planView) rule {
	if len(n.text) == 0 {
		return rule{verdict: verdictAll}
	}
	if n.excluded(t, known) {
		return rule{verdict: verdictNone}
	}
	// The canonical form holds all literals, and little else.
	if n.inText(t.key) {
		for _, l := range t.literals {
			if n.inText(l) {
				return rule{verdict: verdictAll}
			}
		}
	}
	w := walker{t: t, n: n, known: known, texts: known.textsOf(n)}
	values, _ := known.values()
	if n.fold {
		values = values.folded()
	}
	anywhere := n.mask.without(values).empty() // and not only over their ends
	for i, l := range t.literals {
		// The needle begins in the last bytes of a literal …
		for k := min(len(l), len(n.text)-1); k > 0 && n.at(l[len(l)-1]) != 0; k-- {
			if last := l[len(l)-1]; last != n.text[k-1] && !n.fold {
				continue // by far the most common
			}
			if n.equal(l[len(l)-k:], n.text[:k]) {
				w.enter(i, k)
			}
		}
		if i == t.slots() {
			break
		}
		// … or in a value.
		if next := t.literals[i+1]; !anywhere && len(next) > 0 && n.at(next[0])>>1 == 0 {
			continue
		}
		kind, facts := t.kinds[i], known.slot(i)
		within := w.texts.within(facts.mask, 0)
		if within == len(n.text) && kind.allows(n.text, false) {
			w.push(valueContains, i, 0, len(n.text), &facts, w.succeed)
		}
		for k := 1; k <= min(within, len(n.text)-1, facts.longest); k++ {
			// What follows the value must go on with the needle.
			if next := t.literals[i+1]; len(next) > 0 && next[0] != n.text[k] && !n.fold {
				continue
			}
			if kind.allows(n.text[:k], false) {
				w.push(valueEnds, i, 0, k, &facts, func() { w.literal(i+1, k) })
			}
		}
	}
	switch {
	case w.tooMany:
		return rule{verdict: verdictCheck}
	case len(w.found) == 0:
		return rule{verdict: verdictNone}
	}
	return rule{verdict: verdictSome, alternatives: w.found}
}

// excluded reports that no line of a template holds the needle: a part of it that no value
// can hold a byte of is in no literal either.
func (n *planNeedle) excluded(t *Template, known *planView) bool {
	values, empty := known.values()
	from, to := n.outside(values, empty)
	part := planNeedle{text: n.text[from:to], fold: n.fold}
	return from < to && !part.inText(t.key)
}

// outside returns the longest part of the needle that must be in one literal, since values
// hold none of its bytes. Between two literals an empty value may stand.
func (n *planNeedle) outside(values byteMask, empty bool) (from, to int) {
	if n.fold {
		values = values.folded()
	}
	outside := n.mask.without(values)
	if outside.empty() {
		return 0, 0
	}
	for i := 0; i < len(n.text); i++ {
		if !outside.has(n.text[i]) {
			continue
		}
		k := i + 1
		for !empty && k < len(n.text) && outside.has(n.text[k]) {
			k++
		}
		if k-i > to-from {
			from, to = i, k
		}
		i = k
	}
	return from, to
}

func (n *planNeedle) inText(text []byte) bool {
	if !n.fold {
		return bytes.Contains(text, n.text)
	}
	first := n.text[0]
	for i := 0; i+len(n.text) <= len(text); i++ {
		if lower(text[i]) == first && n.equal(text[i:i+len(n.text)], n.text) {
			return true
		}
	}
	return false
}

// equal compares a text with a part of the needle.
func (n *planNeedle) equal(text, part []byte) bool {
	if !n.fold {
		return bytes.Equal(text, part)
	}
	for i, c := range text {
		if lower(c) != part[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// A walker follows a needle through a template, from a place where it may begin.
type walker struct {
	t       *Template
	n       *planNeedle
	known   *planView
	texts   *needleTexts
	held    []slotCondition
	found   [][]slotCondition
	steps   int
	tooMany bool
}

// maxSteps bounds a walk: where a needle can go on in several ways at each slot it would
// take forever, and looking at the lines does not.
const maxSteps = 4096

// push goes on with one more condition: bytes [from, to) of the needle in a slot.
func (w *walker) push(kind conditionKind, slot, from, to int, facts *slotFacts, then func()) {
	length := to - from
	if length > facts.longest || kind == valueEquals && length < facts.shortest {
		return
	}
	if length == facts.longest && facts.longest < unbounded {
		kind = valueEquals
	}
	if !w.texts.possible(kind, from, to, facts) {
		return
	}
	w.held = append(w.held, slotCondition{slot: slot, kind: kind, text: w.n.text[from:to], fold: w.n.fold})
	then()
	w.held = w.held[:len(w.held)-1]
}

func (w *walker) succeed() {
	if len(w.found) >= maxAlternatives {
		w.tooMany = true
		return
	}
	w.found = append(w.found, append([]slotCondition(nil), w.held...))
}

// literal goes on at the beginning of a literal with needle byte j.
func (w *walker) literal(i, j int) {
	l, rest := w.t.literals[i], w.n.text[j:]
	if len(rest) <= len(l) {
		if w.n.equal(l[:len(rest)], rest) {
			w.succeed()
		}
		return
	}
	if w.n.equal(l, rest[:len(l)]) {
		w.enter(i, j+len(l))
	}
}

// enter goes on behind literal i with needle byte j.
func (w *walker) enter(i, j int) {
	if w.steps++; w.steps > maxSteps {
		w.tooMany = true
	}
	if i == w.t.slots() || w.tooMany {
		return
	}
	rest, kind, facts := w.n.text[j:], w.t.kinds[i], w.known.slot(i)
	within := w.texts.within(facts.mask, j)
	if within == len(rest) && kind.allows(rest, true) {
		w.push(valueBegins, i, j, j+len(rest), &facts, w.succeed)
	}
	for k := facts.shortest; k <= min(within, len(rest)-1, facts.longest); k++ {
		if kind.allows(rest[:k], true) {
			w.push(valueEquals, i, j, j+k, &facts, func() { w.literal(i+1, j+k) })
		}
	}
}

// allows reports whether a value of the kind may contain the text; atStart: begin with it.
func (k slotKind) allows(text []byte, atStart bool) bool {
	switch k {
	case slotDigits:
		for _, c := range text {
			if byteClass[c] != classDigit {
				return false
			}
		}
	case slotWord:
		for _, c := range text {
			if byteClass[c] == classOther {
				return false
			}
		}
	case slotBare:
		for _, c := range text {
			if c == ' ' || c == '"' {
				return false
			}
		}
	case slotQuoted:
		for i, c := range text {
			// A quote inside a string has a backslash before it.
			if c == '"' && (i == 0 && atStart || i > 0 && text[i-1] != '\\') {
				return false
			}
		}
	}
	return true
}

// shortest is the length of the shortest value of the kind.
func (k slotKind) shortest() int {
	if k == slotDigits || k == slotWord {
		return 1
	}
	return 0
}
