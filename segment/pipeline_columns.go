package segment

import (
	"bytes"
	"strconv"
	"unsafe"

	"github.com/logcluster/logcluster/segment/field"
)

// An aggregation over fields is answered from the columns of the fields it looks at,
// where that gives just what Pipeline.Run gives for the line:
//
//   - The parser is the first stage and the only one, and extracts what was asked for only.
//   - Which slot is which field is found by the parser itself, on a line of the template
//     whose values are marks. A template in which that depends on the values, since a name
//     occurs twice, say, is left to the lines.
//   - Whether the line is right is the same for all lines of the template, given values
//     that are right by themselves: those are looked at once, by column.
//
// The stages behind the parser then run on the values, once for each combination of
// values out of dictionaries, and once a row where a field has no dictionary.

// fieldsOf is which slots of a template hold which fields.
type fieldsOf struct {
	slots []int
	names []string
}

// parserOnly returns p's parser if it is the first stage and no other is a parser.
func (p *Pipeline) parserOnly() PipelineStage {
	if !p.finite || len(p.Stages) == 0 {
		return nil
	}
	for i, stage := range p.Stages {
		switch stage.(type) {
		case *JSONStage, *LogfmtStage:
			if i > 0 {
				return nil
			}
		default:
			if i == 0 {
				return nil
			}
		}
	}
	return p.Stages[0]
}

// fieldsOf finds the fields of a template; nil if its lines must be looked at.
func (p *Pipeline) fieldsOf(t *Template) *fieldsOf {
	stage := p.parserOnly()
	var scan func(line []byte, to *field.Fields) error
	switch s := stage.(type) {
	case *JSONStage:
		if t.kind != templateJSON {
			return nil
		}
		if s.all != nil {
			scan = s.all.Scan
		} else {
			for _, k := range t.kinds {
				if k == slotAny { // a path may lead into the array
					return nil
				}
			}
			scan = s.paths.Scan
		}
	case *LogfmtStage:
		if t.kind != templateLogfmt {
			return nil
		}
		scan = s.parser.Scan
	default:
		return nil
	}
	var found field.Fields
	if scan(t.probe(nil), &found) != nil {
		return nil
	}
	f := &fieldsOf{}
	used := make([]bool, t.slots())
	for _, x := range found.List {
		slot, ok := markedSlot(x.Value)
		if !ok || slot >= t.slots() || used[slot] {
			return nil // an object as a whole, or one slot under two names
		}
		used[slot] = true
		f.slots = append(f.slots, slot)
		f.names = append(f.names, x.Name)
	}
	// Without the values of these fields no other may take their place.
	var second field.Fields
	if scan(t.probe(used), &second) != nil {
		return nil
	}
	for _, x := range second.List {
		if x.Value != "" {
			return nil
		}
	}
	return f
}

// markBase makes marks that are right as numbers and as strings.
const markBase = 7_340_000_000

// probe is a line of the template with a mark in each slot, or nothing where empty says.
func (t *Template) probe(empty []bool) []byte {
	var line []byte
	for i, kind := range t.kinds {
		line = append(line, t.literals[i]...)
		switch {
		case empty != nil && empty[i] && kind == slotBare && t.kind == templateJSON:
			line = append(line, "null"...)
		case empty != nil && empty[i]:
		case kind == slotAny:
			line = append(line, "[]"...)
		default:
			line = strconv.AppendInt(line, markBase+int64(i), 10)
		}
	}
	return append(line, t.literals[len(t.kinds)]...)
}

func markedSlot(value string) (int, bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	return int(n - markBase), err == nil && n >= markBase && len(value) == 10
}

// plain reports whether all values of a column are right by themselves in a line of the
// template, and stand there as they are.
func (c *blockColumns) plain(local int, slot int) (bool, error) {
	t := &c.templates[local]
	col, kind := &t.columns[slot], t.template.kinds[slot]
	json := t.template.kind == templateJSON
	check := func(v []byte) bool {
		switch {
		case json && kind == slotQuoted:
			return plainText(v, 0x20, "\\\"")
		case json && kind == slotBare:
			return bareJSON(v)
		case json:
			return false // arrays
		case kind == slotQuoted:
			return plainText(v, 0x20, "\\\"")
		}
		return plainText(v, ' '+1, "\\\"=")
	}
	switch col.encoding {
	case columnConst, columnDict:
		for _, e := range col.entries {
			if !check(e) {
				return false, nil
			}
		}
		return true, nil
	case columnFold:
		// Digits behind what is right by itself are right, but where that is a number.
		for _, e := range col.entries {
			if !check(e) || json && kind != slotQuoted && (len(e) == 0 || e[0] == '0' || !allDigits(e[:1])) {
				return false, nil
			}
		}
		return true, nil
	case columnNumber, columnPlanes, columnSplit:
		canonical := col.format == formatDecimal || col.format == formatPoint
		return canonical || kind == slotQuoted || !json && kind == slotBare, nil
	case columnHex, columnHexPlanes:
		return kind == slotQuoted || !json && kind == slotBare, nil
	}
	if kind != slotQuoted && json {
		return false, nil
	}
	if f := c.block.file.filter; f != nil && kind == slotQuoted &&
		f.slot(c.block.Meta.Templates[local].ID, slot).mask.without(plainMask).empty() {
		return true, nil
	}
	if err := c.load(t, col); err != nil {
		return false, err
	}
	return check(col.payload), nil
}

// plainText reports whether no byte is below a limit, is DEL or beyond ASCII, or is one
// of some others.
func plainText(v []byte, limit byte, but string) bool {
	for _, c := range v {
		if c < limit || c >= 0x7f {
			return false
		}
	}
	return !bytes.ContainsAny(v, but)
}

// bareJSON reports whether v is a number as JSON has it, true, false or null.
func bareJSON(v []byte) bool {
	switch string(v) {
	case "true", "false", "null":
		return true
	}
	digits := func() bool {
		n := 0
		for len(v) > 0 && v[0] >= '0' && v[0] <= '9' {
			v = v[1:]
			n++
		}
		return n > 0
	}
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	if len(v) > 1 && v[0] == '0' && v[1] >= '0' && v[1] <= '9' || !digits() {
		return false
	}
	if len(v) > 0 && v[0] == '.' {
		v = v[1:]
		if !digits() {
			return false
		}
	}
	if len(v) > 0 && (v[0] == 'e' || v[0] == 'E') {
		v = v[1:]
		if len(v) > 0 && (v[0] == '+' || v[0] == '-') {
			v = v[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(v) == 0
}

// A fieldReader gives the fields of rows of one template in one block.
type fieldReader struct {
	fields  *fieldsOf
	columns []*column // of the slots of fields
	json    bool
	kinds   []slotKind

	// combinations, if all columns have dictionaries: how many there are; else 0.
	combinations int
	outcomes     []outcome

	list []field.Field
	text []byte
}

// An outcome is what becomes of the rows with one combination of values, in one run.
type outcome struct {
	run    int32 // 0: not known yet
	series int32 // -1: they are dropped
	value  float64
}

const maxCombinations = 1 << 16

// fieldReader prepares a template's rows; nil if their lines must be looked at.
func (r *blockReader) fieldReader(p *Pipeline, local int, known map[*Template]*fieldsOf) (*fieldReader, error) {
	template := r.block.file.templates[r.block.Meta.Templates[local].ID]
	f, ok := known[template]
	if !ok {
		f = p.fieldsOf(template)
		known[template] = f
	}
	if f == nil {
		return nil, nil
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	t, err := r.columns.columnsOf(local)
	if err != nil {
		return nil, err
	}
	for slot := range t.columns {
		if ok, err := r.columns.plain(local, slot); !ok || err != nil {
			return nil, err
		}
	}
	out := &fieldReader{fields: f, json: template.kind == templateJSON, combinations: 1}
	for _, slot := range f.slots {
		col := &t.columns[slot]
		if err := r.columns.load(t, col); err != nil {
			return nil, err
		}
		out.columns = append(out.columns, col)
		out.kinds = append(out.kinds, template.kinds[slot])
		switch {
		case col.encoding == columnConst:
		case col.encoding == columnDict && out.combinations*len(col.entries) <= maxCombinations:
			out.combinations *= len(col.entries)
		default:
			out.combinations = 0
		}
	}
	if out.combinations > 0 {
		out.outcomes = make([]outcome, out.combinations)
	}
	return out, nil
}

// combination numbers the values of a row.
func (f *fieldReader) combination(rank int) int {
	n := 0
	for _, col := range f.columns {
		if col.encoding == columnDict {
			n = n*len(col.entries) + int(col.ids[rank])
		}
	}
	return n
}

// read returns the fields of a row. They are valid until the next call.
func (f *fieldReader) read(rank int, ts int64) []field.Field {
	f.list, f.text = f.list[:0], f.text[:0]
	for i, col := range f.columns {
		from := len(f.text)
		f.text = col.append(f.text, rank, ts)
		value := f.text[from:len(f.text):len(f.text)]
		if len(value) == 0 || f.json && f.kinds[i] == slotBare && string(value) == "null" {
			continue // no field
		}
		f.list = append(f.list, field.Field{Name: f.fields.names[i], Value: unsafe.String(unsafe.SliceData(value), len(value))})
	}
	return f.list
}
