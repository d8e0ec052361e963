package segment

import (
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// A segmentPlan is what one query's line filters say of a segment: of its templates, each
// decided when a block first uses it, and of its lines without one. The first block of an
// open segment is enough to know it by: its templates are those of all.
type segmentPlan struct {
	filter *segmentFilter // nil: none
	plans  []*filterPlan

	mu    sync.Mutex      // guards what follows
	rules []templateRules // by template; those of an open segment grow
	texts map[*planNeedle]*needleTexts
	// excluded, by union and whether values may be empty: 1 yes, -1 no, 0 not decided.
	excluded []int8
	literals map[*planNeedle][]int // gramFilter.missing of the literals' grams
	err      error                 // that FILTERS could not be read
	view     planView              // of the template that is decided on
	scratch  []rule

	bareKnown, bareNone bool
}

// templateRules are the rules of one template.
type templateRules struct {
	decided bool
	verdict verdict // verdictNone, verdictAll, or verdictSome: rules are left
	rules   []rule
}

// of decides on a template of a file.
func (p *segmentPlan) of(file *blockFile, id uint32) (*templateRules, error) {
	for len(p.rules) < len(file.templates) {
		p.rules = append(p.rules, make([]templateRules, len(file.templates)-len(p.rules))...)
	}
	r := &p.rules[id]
	if r.decided {
		return r, nil
	}
	if p.filter != nil && p.excludes(id) {
		r.decided = true // and verdictNone
		return r, nil
	}
	t := file.templates[id]
	p.view = planView{plan: p, id: id, kinds: t.kinds}
	if len(p.scratch) != len(p.plans) {
		p.scratch = make([]rule, len(p.plans))
	}
	rules := p.scratch
	open := false
	r.verdict = verdictAll
	for i, f := range p.plans {
		rules[i] = f.decide(t, &p.view)
		if p.err != nil {
			return nil, p.err
		}
		if rules[i].verdict == verdictNone {
			r.verdict = verdictNone
			break
		}
		open = open || rules[i].verdict != verdictAll
	}
	if open && r.verdict != verdictNone {
		r.verdict, r.rules = verdictSome, slices.Clone(rules)
	}
	r.decided = true
	return r, nil
}

// excludes reports that no line of a template passes, by the bytes of its values and the
// grams of all literals, without a look at the template itself.
func (p *segmentPlan) excludes(id uint32) bool {
	f := p.filter
	at := 2 * int(f.union[id])
	if f.empties[id] {
		at++
	}
	if p.excluded == nil {
		p.excluded = make([]int8, 2*len(f.unions))
	}
	if p.excluded[at] == 0 {
		p.excluded[at] = -1
		gone := func(n *planNeedle) bool {
			from, to := n.outside(f.unions[f.union[id]], f.empties[id])
			if from == to {
				return false
			}
			missing, known := p.literals[n]
			if !known {
				missing = f.literals().missing(n)
				if p.literals == nil {
					p.literals = map[*planNeedle][]int{}
				}
				p.literals[n] = missing
			}
			return missing[from]+gramSize <= to
		}
		for _, plan := range p.plans {
			if plan.negative {
				continue
			}
			all := plan.exact
			for i := range plan.needles {
				all = all && gone(&plan.needles[i])
			}
			for i := range plan.required {
				all = all || gone(&plan.required[i])
			}
			if all {
				p.excluded[at] = 1
				break
			}
		}
	}
	return p.excluded[at] > 0
}

// noBare reports that no line without a template passes, by the grams of all of them.
func (p *segmentPlan) noBare() bool {
	if p.bareKnown || p.filter == nil || p.filter.grams == nil {
		return p.bareNone
	}
	p.bareKnown = true
	view := planView{plan: p}
	for _, f := range p.plans {
		if f.negative {
			continue
		}
		lacks := func(n *planNeedle) bool { return view.textsOf(n).missing[0] < len(n.text) }
		if f.exact {
			none := true
			for i := range f.needles {
				none = none && lacks(&f.needles[i])
			}
			p.bareNone = p.bareNone || none
		}
		for i := range f.required {
			p.bareNone = p.bareNone || lacks(&f.required[i])
		}
	}
	return p.bareNone
}

// A planView is what is known of the values of one template. The zero value knows nothing
// but their kinds.
type planView struct {
	plan  *segmentPlan // nil: nothing is known
	id    uint32
	first int // slot of the template that is slot 0 here
	kinds []slotKind
}

func (v *planView) filter() *segmentFilter {
	if v.plan == nil {
		return nil
	}
	return v.plan.filter
}

// slot returns the facts of a slot.
func (v *planView) slot(i int) slotFacts {
	if f := v.filter(); f != nil {
		return f.slot(v.id, v.first+i)
	}
	return v.kinds[i].facts()
}

// values returns what the template's values hold, and whether one may be empty.
func (v *planView) values() (mask byteMask, empty bool) {
	if f := v.filter(); f != nil {
		return f.unions[f.union[v.id]], f.empties[v.id]
	}
	for _, k := range v.kinds {
		f := k.facts()
		mask, empty = mask.or(f.mask), empty || f.shortest == 0
	}
	return mask, empty
}

// textsOf returns what is known of the parts of a needle in the segment.
func (v *planView) textsOf(n *planNeedle) *needleTexts {
	if v.plan == nil {
		return &needleTexts{n: n}
	}
	texts := v.plan.texts[n]
	if texts == nil {
		texts = &needleTexts{n: n, plan: v.plan}
		if f := v.filter(); f != nil && f.grams != nil {
			texts.missing = f.grams.missing(n)
		}
		if v.plan.texts == nil {
			v.plan.texts = map[*planNeedle]*needleTexts{}
		}
		v.plan.texts[n] = texts
	}
	return texts
}

// needleTexts remembers what a segment's filters say of the parts of a needle.
type needleTexts struct {
	n       *planNeedle
	plan    *segmentPlan // nil: there are no filters
	missing []int        // gramFilter.missing; nil: nothing is known
	values  map[[2]int]bool
}

// within returns how many bytes from a place on can be in a value of only these.
func (t *needleTexts) within(mask byteMask, from int) int {
	if t.n.fold {
		mask = mask.folded()
	}
	if t.n.mask.without(mask).empty() {
		return len(t.n.text) - from
	}
	k := from
	for k < len(t.n.text) && mask.has(t.n.text[k]) {
		k++
	}
	return k - from
}

// possible reports whether bytes [from, to) may be, or be in, a value of a slot.
func (t *needleTexts) possible(kind conditionKind, from, to int, facts *slotFacts) bool {
	if facts.grammed && t.missing != nil && t.missing[from]+gramSize <= to {
		return false
	}
	if !facts.listed || kind != valueEquals || t.n.fold {
		return true
	}
	at := [2]int{from, to}
	has, known := t.values[at]
	if !known {
		var err error
		if has, err = t.plan.filter.hasValue(xxhash.Sum64(t.n.text[from:to])); err != nil {
			t.plan.err = err
			return true
		}
		if t.values == nil {
			t.values = map[[2]int]bool{}
		}
		t.values[at] = has
	}
	return has
}
