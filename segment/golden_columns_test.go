package segment

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// appendPlain appends one record whose payload is not compressed: the output of s2
// differs between machines, and the chain covers it.
func (l *testLog) appendPlain(b *Batch) {
	before, records := l.at, len(l.records)
	l.append(b)
	r := l.records[records]
	if len(l.records) != records+1 {
		l.t.Fatalf("%d records, want one", len(l.records)-records)
	}
	raw, err := decompress(nil, r.Codec, r.payload, int(r.RawLength))
	if err != nil {
		l.t.Fatal(err)
	}
	l.records, l.at = l.records[:records], before
	r.Codec, r.PayloadLength, r.PayloadCRC = CodecNone, r.RawLength, Checksum(raw)
	l.place(r.Header, raw, r.streams)
}

// goldenLines have columns of every encoding but planes and hex, which take more rows.
var goldenLines = func() (lines []string) {
	for i := range 24 {
		at := 1_700_000_001_000_000_000 + int64(i)*1e6
		lines = append(lines, fmt.Sprintf(`{"ts":"%s","level":"%s","host":"%s","id":"%08x","free":"%s","n":%d,"list":[1]}`,
			time.Unix(0, at-int64(i*i)*1e6).UTC().Format("2006-01-02T15:04:05.000Z"), []string{"info", "warn", "info"}[i%3], []string{"a", "b", "a"}[i%3],
			uint32(i+1)*2654435761, strings.Repeat("x", i)+"y", 48210000+i%2*2000000+i*31%97))
	}
	for i := range 5 {
		lines = append(lines, fmt.Sprintf("took=%d.%02d ip=10.0.%d.7 path=\"/\"", i, i*7%100, 255-i), fmt.Sprintf("job %03d took %dms, %s left", i*250, i-2, []string{"1", "01", "001"}[i%3]))
	}
	return lines
}()

// describeColumns follows COLUMNS: the heads of all templates, then their directories.
func describeColumns(t testing.TB, a *annotator, block *Block) {
	for i := range block.Meta.Templates {
		a.varints(5, false, fmt.Sprintf("template %d: bytes of its directory, and in NUM, ID, STR, BIN", i))
	}
	columns, err := block.columns()
	if err != nil {
		t.Fatal(err)
	}
	for i := range columns.templates {
		of, err := columns.columnsOf(i)
		if err != nil {
			t.Fatal(err)
		}
		if len(of.columns) > 0 && of.directory[0] == byte(columnFold) {
			a.title("template %d", i)
			a.varints(3, false, "8 fold, its number, variants that are used are below")
			a.varints(1, false, "ids of variants: 0 packed, 1 planes")
		}
		for k := range of.columns {
			if of.columns[k].slot != nil {
				continue
			}
			a.title("template %d, slot %d", i, k)
			describeColumn(t, a, of.columns, k)
		}
	}
}

func describeColumn(t testing.TB, a *annotator, columns []column, k int) {
	c := &columns[k]
	lengths := func() {
		if c.format == formatDigits {
			a.varints(2, false, "fewest digits, bits of a length")
		}
	}
	ids := func() {
		if a.varints(1, false, "ids: 0 packed, 1 planes, 2 derived")[0] == uint64(idsDerived) {
			source := a.varints(1, false, "of the ids of slot")[0]
			a.varints(columns[source].count, false, "id for each of its ids")
		}
	}
	switch encoding := columnEncoding(a.varints(1, false, "encoding: 0 const, 1 number, 2 planes, 3 dict, 5 hex, 6 text, 7 split")[0]); encoding {
	case columnConst:
		a.text("value")
	case columnNumber, columnPlanes:
		a.varints(2, false, "format, parameter")
		a.varints(1, true, "smallest")
		a.varints(1, false, "bits of a number")
		lengths()
	case columnDict:
		for range a.varints(1, false, "values")[0] {
			a.text("value")
		}
		ids()
	case columnSplit:
		a.varints(3, false, "format, parameter, digits that are not in the dictionary")
		a.varints(int(a.varints(1, false, "leading numbers")[0]), false, "leading numbers")
		lengths()
		ids()
	case columnHex:
		a.varints(2, false, "1: in upper case, digits")
	case columnText:
		a.varints(3, false, "shortest, bits of a length, bytes in all")
	default:
		t.Fatalf("encoding %d", encoding)
	}
}

// describeFolds follows DICT.
func describeFolds(a *annotator) {
	for range a.varints(1, false, "folds")[0] {
		a.varints(1, false, "bytes of the fold")
		describeFold(a, nil)
	}
}

// describeFoldAdditions follows those of a block in open-N.aux.
func describeFoldAdditions(a *annotator, folds map[uint64][]int) {
	for range a.varints(1, false, "folds with new variants")[0] {
		number := a.varints(1, false, "number")[0]
		folds[number] = describeFold(a, folds[number])
	}
}

// describeFold describes a fold whose slots had so many values before; nil: it is new.
func describeFold(a *annotator, values []int) []int {
	if values == nil {
		head := a.varints(2, false, "template, slots")
		a.varints(2*int(head[1]), false, "for each slot: slots since the last one, digits left to blocks")
		values = make([]int, head[1])
	}
	variants := int(a.varints(1, false, "new variants")[0])
	for slot := range values {
		n := int(a.varints(1, false, "new values of the slot")[0])
		each := a.varints(2*n, false, "for each: fewer digits than there may be, bytes")
		for i := range n {
			if length := int(each[2*i+1]); length > 0 {
				a.field(length, "value %q", a.b[a.at:a.at+length])
			}
		}
		if values[slot] += n; values[slot] > 1 {
			a.varints(variants, false, "value of each variant")
		}
	}
	return values
}

func describeTemplates(a *annotator) {
	for range a.varints(1, false, "templates")[0] {
		end := int(a.varints(1, false, "bytes of the canonical form")[0]) + a.at
		a.varints(1, false, "kind: 0 text, 1 JSON, 2 logfmt")
		for a.text("literal"); a.at < end; a.text("literal") {
			a.varints(1, false, "slot: 0 digits, 1 word, 2 bare, 3 quoted, 4 any")
		}
	}
}
