package field

import (
	"errors"
	"strings"
	"testing"
)

func TestLogfmt(t *testing.T) {
	f := func(l *Logfmt, line, want string, wantErr error) {
		t.Helper()
		var fields Fields
		err := l.Scan([]byte(line), &fields)
		if got := rendered(&fields); got != want || !errors.Is(err, wantErr) {
			t.Errorf("%.200q:\n%.300s, %v, want\n%.300s, %v", line, got, err, want, wantErr)
		}
	}
	plain, strict, empty := NewLogfmt(nil, false, false), NewLogfmt(nil, true, false), NewLogfmt(nil, false, true)
	const line = `at=info method=GET path=/ host=grafana.net fwd="124.133.124.161" service=8ms status=200`
	const fields = `at="info" method="GET" path="/" host="grafana.net" fwd="124.133.124.161" service="8ms" status="200"`
	f(plain, line, fields, nil)
	f(strict, line, fields, nil)
	f(plain, "", "", nil)
	f(plain, " \t\n", "", nil)
	f(plain, "a=1\tb=2\n c=3", `a="1" b="2" c="3"`, nil)
	f(plain, `a= b="" c d=1`, `d="1"`, nil)
	f(empty, `a= b="" c d=1`, `a="" b="" c="" d="1"`, nil)
	f(strict, `a= b="" c d=1`, `d="1"`, nil)
	f(plain, `a="x y\"z\\ \n\u00e9"`, `a="x y\"z\\ \né"`, nil)
	f(plain, `a.b=1 2c=3 é=4 a:b=5`, `a_b="1" _2c="3" _="4" a_b="5"`, nil)
	f(plain, "a=\xff b=1", `a="\xff" b="1"`, nil)
	f(plain, `a=1 a=2`, `a="1" a="2"`, nil)
	// The documentation's faulty pairs.
	for _, bad := range []string{`=value`, `foo=bar=buzz`, `fo"o=bar`, `a="x"y`, `a="\q"`, `a="x\"`, `a="`, `a=x"`, `"a"=1`} {
		rest, tail := `z="1"`, " z=1"
		if bad == `a="x\"` || bad == `a="` {
			rest = "" // The quote takes all of the line.
		}
		f(plain, bad+tail, rest, nil)
		f(strict, "y=0 "+bad+tail, `y="0"`, ErrPair)
	}
	long := strings.Repeat("x", MaxName)
	f(plain, long+"=1 "+long+"y=2 1"+long[1:]+"=3 z=4", long+`="1" z="4"`, nil)

	wanted := NewLogfmt([]string{"b", "c_d"}, false, false)
	f(wanted, `a=1 b="\u0032" c.d=3 e=4`, `b="2" c_d="3"`, nil)
	f(NewLogfmt([]string{}, true, false), `a=1`, ``, nil)

	keys, err := NewLogfmtKeys([]Expression{{"fwd_ip", "fwd"}, {"host", "host"}, {"h2", "host"}, {"x", "a.b"}, {"absent", "absent"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	f(keys, line, `host="grafana.net" h2="grafana.net" fwd_ip="124.133.124.161"`, nil)
	f(keys, `a.b=1 a_b=2 host`, `x="1" x="2" host="" h2=""`, nil)
	for _, bad := range [][]Expression{{{"a", ""}}, {{"a", long + "y"}}, make([]Expression, MaxExpressions+1)} {
		if _, err := NewLogfmtKeys(bad, false); err == nil {
			t.Errorf("%.50v is taken", bad)
		}
	}
}

// FuzzLogfmt looks for panics, for values that the line does not have, and for a strict
// scan that finds other fields before its fault.
func FuzzLogfmt(f *testing.F) {
	for _, seed := range []string{``, `a=b`, `a="b c" d= e`, `=a b"c=d e="f`, `a="\u00e9\"" b`, "\xff=\xff", `a==b`, `a="\`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var all, strict, empty Fields
		if err := NewLogfmt(nil, false, false).Scan(line, &all); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		err := NewLogfmt(nil, true, false).Scan(line, &strict)
		if len(strict.List) > len(all.List) || err == nil && len(strict.List) != len(all.List) {
			t.Fatalf("%q: %s, strict %s", line, rendered(&all), rendered(&strict))
		}
		for i, x := range strict.List {
			if all.List[i] != x {
				t.Fatalf("%q: %s, strict %s", line, rendered(&all), rendered(&strict))
			}
		}
		if NewLogfmt(nil, false, true).Scan(line, &empty); len(empty.List) < len(all.List) {
			t.Fatalf("%q: %s, with empty ones %s", line, rendered(&all), rendered(&empty))
		}
		for i, x := range all.List {
			if !clean(x.Name) || x.Value == "" {
				t.Fatalf("%q: the field %q=%q", line, x.Name, x.Value)
			}
			var one Fields
			if NewLogfmt([]string{x.Name}, false, false).Scan(line, &one); i < 20 && (len(one.List) == 0 || one.List[0].Name != x.Name) {
				t.Fatalf("%q: %s is not found alone", line, x.Name)
			}
		}
	})
}
