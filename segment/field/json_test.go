package field

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// rendered is the fields as name=value, quoted, in their order.
func rendered(f *Fields) string {
	var b strings.Builder
	for i, x := range f.List {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%q", x.Name, x.Value)
	}
	return b.String()
}

func TestJSON(t *testing.T) {
	f := func(line, want string, wantErr error) {
		t.Helper()
		var fields Fields
		err := NewJSON(nil).Scan([]byte(line), &fields)
		if got := rendered(&fields); got != want || !errors.Is(err, wantErr) {
			t.Errorf("%.200s:\n%.300s, %v, want\n%.300s, %v", line, got, err, want, wantErr)
		}
	}
	// The documentation's example.
	f(`{"protocol":"HTTP/2.0","servers":["129.0.1.1","10.2.1.3"],"request":{"time":"6.032","method":"GET","host":"foo.grafana.net","size":"55",`+
		`"headers":{"Accept":"*/*","User-Agent":"curl/7.68.0"}},"response":{"status":401,"size":"228","latency_seconds":"6.031"}}`,
		`protocol="HTTP/2.0" request_time="6.032" request_method="GET" request_host="foo.grafana.net" request_size="55" `+
			`request_headers_Accept="*/*" request_headers_User_Agent="curl/7.68.0" response_status="401" response_size="228" response_latency_seconds="6.031"`, nil)
	f(`{}`, ``, nil)
	f(" \t\r\n{ \"a\" : 1 , \"b\" : { } , \"c\":[ ] } \n", `a="1"`, nil)
	f(`{"a.b":{"c":"d"},"e":"f"}`, `a_b_c="d" e="f"`, nil)
	f(`{"n":-1.50e+3,"t":true,"f":false,"z":null,"s":""}`, `n="-1.50e+3" t="true" f="false"`, nil)
	f(`{"1a":1,"a-b":2,"é":3,"a b":4,"x:y":5,"":6,"_":7,"o":{"1":8,"":9}}`, `_1a="1" a_b="2" _="3" a_b="4" x_y="5" _="7" o_1="8" o_="9"`, nil)
	f("{\"\xff\xfe\":1}", `__="1"`, nil)
	f(`{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800x\udc00"}`, `a="\"\\/\b\f\n\r\té😀`+"\uFFFDx\uFFFD"+`"`, nil)
	f("{\"a\":\"\xff\"}", `a="\xff"`, nil)
	f(`{"\u0061.\u0062":"x"}`, `a_b="x"`, nil)
	f(`{"a":1,"a":2}`, `a="1" a="2"`, nil)
	f(`{"":{"a":1}}`, ``, nil)
	f(`{"a":[{"b":1},[2]],"c":3}`, `c="3"`, nil)

	f(``, ``, ErrNotObject)
	f(`GET /`, ``, ErrNotObject)
	f(`[1]`, ``, ErrNotObject)
	f(`"a"`, ``, ErrNotObject)
	f(`{"a":1} x`, `a="1"`, ErrTrailing)
	f(`{"a":1}{}`, `a="1"`, ErrTrailing)
	f(`{"a":1,"b":"cut`, `a="1"`, ErrSyntax)
	for _, bad := range []string{`{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{"a":[1,]}`, `{"a":[1`, `{"a":[`, `{"a":[1 2]}`,
		`{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":+1}`, `{"a":tru}`, `{"a":nul`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":"\`, "{\"a\":\"\n\"}", "{\"a\x00\":1}", `{"a":{"b":1}`} {
		var fields Fields
		if err := NewJSON(nil).Scan([]byte(bad), &fields); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v, want %v", bad, err, ErrSyntax)
		}
	}
	deep := strings.Repeat(`{"a":`, MaxDepth)
	f(deep+`1`+strings.Repeat("}", MaxDepth), strings.Repeat("a_", MaxDepth-1)+`a="1"`, nil)
	f(`{"a":`+deep+`1`+strings.Repeat("}", MaxDepth+1), ``, ErrDepth)
	f(`{"a":`+strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth)+"}", ``, ErrDepth)
	long := strings.Repeat("x", MaxName)
	f(`{"`+long+`":1,"`+long+`y":2,"`+long+`":{"a":3},"b":4}`, long+`="1" b="4"`, nil)
	many := `{"a":1` + strings.Repeat(`,"b":null`, MaxFields-1)
	f(many+`}`, `a="1"`, nil)
	f(many+`,"c":2}`, `a="1"`, ErrFields)
	f(`{"`+long+`y":`+many+`}}`, ``, nil)
	f(`{"`+long+`y":`+many+`,"c":2}}`, ``, ErrFields)
}

func TestJSONWanted(t *testing.T) {
	f := func(line, want string, names ...string) {
		t.Helper()
		var fields Fields
		if err := NewJSON(names).Scan([]byte(line), &fields); err != nil || rendered(&fields) != want {
			t.Errorf("%s: %s, %v, want %s", line, rendered(&fields), err, want)
		}
	}
	const line = `{"a":1,"b":{"c":2,"d":{"e":3}},"b.c":"\u0034","bc":5}`
	f(line, `a="1"`, "a")
	f(line, `b_c="2" b_c="4"`, "b_c")
	f(line, `b_d_e="3" bc="5"`, "b_d_e", "bc", "b")
	f(line, ``, []string{}...)
	f(line, ``, "z")
}

func TestJSONPaths(t *testing.T) {
	const line = `{"protocol":"HTTP/2.0","servers":["129.0.1.1",{"a":["x","y"]}],"request":{"headers":{"Accept":"*/*", "User-Agent":"curl"},"n":1},"null":null,"e":"","u":"\u00e9","a\"b":7}`
	f := func(path, want string) {
		t.Helper()
		p, err := NewJSONPaths([]Expression{{"v", path}})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		var fields Fields
		if err := p.Scan([]byte(line), &fields); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if got, _ := fields.Get("v"); got != want || len(fields.List) > 1 {
			t.Errorf("%s: %s, want %q", path, rendered(&fields), want)
		}
	}
	f(`protocol`, `HTTP/2.0`)
	f(`["protocol"]`, `HTTP/2.0`)
	f(`servers[0]`, `129.0.1.1`)
	f(`servers[1].a[1]`, `y`)
	f(`servers[1]["a"][0]`, `x`)
	f(`servers[2]`, ``)
	f(`servers`, `["129.0.1.1",{"a":["x","y"]}]`)
	f(`servers.a`, ``)
	f(`request[0]`, ``)
	f(`request.headers`, `{"Accept":"*/*", "User-Agent":"curl"}`)
	f(`request.headers["User-Agent"]`, `curl`)
	f(`request.n`, `1`)
	f(`null`, ``)
	f(`e`, ``)
	f(`u`, `é`)
	f(`["a\"b"]`, `7`)
	f(`nope.nope`, ``)

	bad := func(path string) {
		t.Helper()
		if err := CheckPath(path); err == nil {
			t.Errorf("path %q is taken", path)
		}
	}
	for _, path := range []string{``, `.`, `.a`, `a.`, `a..b`, `a[`, `a[]`, `a[x]`, `a[-1]`, `a[+1]`, `a[99999999999]`, `a["x]`, `a["x"`, `a["x"]b`, `a-b`, `1a`, `a.1`, `a b`, `a["\q"]`, strings.Repeat("[0]", 200)} {
		bad(path)
	}
	if _, err := NewJSONPaths(make([]Expression, MaxExpressions+1)); err == nil {
		t.Error("too many expressions are taken")
	}

	// Several at once, one below the other, and one value for two labels.
	p, err := NewJSONPaths([]Expression{{"all", "request"}, {"h", `request.headers.Accept`}, {"p", "protocol"}, {"q", "protocol"}})
	if err != nil {
		t.Fatal(err)
	}
	var fields Fields
	if err := p.Scan([]byte(line), &fields); err != nil {
		t.Fatal(err)
	}
	const want = `p="HTTP/2.0" q="HTTP/2.0" h="*/*" all="{\"headers\":{\"Accept\":\"*/*\", \"User-Agent\":\"curl\"},\"n\":1}"`
	if got := rendered(&fields); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// The first that is not empty counts.
	p, _ = NewJSONPaths([]Expression{{"v", "a.b"}})
	fields.Reset()
	if err := p.Scan([]byte(`{"a":1,"a":{"b":null,"b":2,"b":3}}`), &fields); err != nil || rendered(&fields) != `v="2"` {
		t.Errorf("%s, %v", rendered(&fields), err)
	}
}

// TestJSONAllocates checks that lines cost no allocation once the memory has grown.
func TestJSONAllocates(t *testing.T) {
	paths, err := NewJSONPaths([]Expression{{"v", "a.b"}, {"w", "c[0]"}})
	if err != nil {
		t.Fatal(err)
	}
	line, pairs := []byte(`{"a":{"b":"\u0041x","c.d":1},"c":["y"],"d":"z"}`), []byte(`a=b c.d="x\"y" e`)
	for name, scan := range map[string]func([]byte, *Fields) error{
		"all":    NewJSON(nil).Scan,
		"wanted": NewJSON([]string{"a_b", "d"}).Scan,
		"paths":  paths.Scan,
		"logfmt": NewLogfmt(nil, true, true).Scan,
	} {
		var f Fields
		text := line
		if name == "logfmt" {
			text = pairs
		}
		once := func() {
			f.Reset()
			if err := scan(text, &f); err != nil {
				t.Fatal(err)
			}
		}
		once()
		if n := testing.AllocsPerRun(100, once); n > 0 {
			t.Errorf("%s: %v allocations a line", name, n)
		}
	}
}

// decoded is what encoding/json makes of a line: every scalar in an object, by the rules of
// the package, in order.
func decoded(line []byte) (fields []Field, ok bool) {
	if !json.Valid(line) || bytes.TrimLeft(line, " \t\r\n")[0] != '{' {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	token := func() json.Token {
		t, err := d.Token()
		if err != nil {
			panic(err)
		}
		return t
	}
	var skip func(t json.Token)
	skip = func(t json.Token) {
		if t == json.Delim('{') || t == json.Delim('[') {
			for d.More() {
				skip(token())
			}
			token()
		}
	}
	var object func(prefix string)
	object = func(prefix string) {
		for d.More() {
			key := token().(string)
			name := prefix
			if prefix != "" {
				name += "_"
			}
			for i, c := range key {
				if c >= '0' && c <= '9' && i == 0 && prefix == "" {
					name += "_"
				}
				if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", c) {
					name += string(c)
				} else {
					name += "_"
				}
			}
			value := ""
			switch t := token().(type) {
			case json.Delim:
				if t == '{' && name != "" {
					object(name)
				} else {
					skip(t)
				}
				continue
			case json.Number:
				value = t.String()
			case string:
				value = t
			case bool:
				value = fmt.Sprint(t)
			}
			if name != "" && value != "" {
				fields = append(fields, Field{name, value})
			}
		}
		token()
	}
	token()
	object("")
	return fields, true
}

// FuzzJSON compares with encoding/json, the wanted fields with all, and paths with fields.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, ` {"a":{"b":"x\n\u00e9","c":[1,{"d":2}]},"e":null,"f":true} `, `{"a":1} x`, `{"a":"\ud83d\ude00\ud83d"}`, `{"é":"ü","1":2}`,
		`{"a":-0.5e-7,"b":"01234567890123456789\"01234567"}`, `{"a":"\`, `{"a":tru`, "{\"a\":\"\xff\x1f\"}", `[{}]`, `{"a":{"a":{"a":{}}}}`, `{"":""}`,
	} {
		f.Add([]byte(seed), "a.b")
	}
	f.Fuzz(func(t *testing.T, line []byte, path string) {
		var fields Fields
		err := NewJSON(nil).Scan(line, &fields)
		if errors.Is(err, ErrDepth) || errors.Is(err, ErrFields) {
			return
		}
		want, ok := decoded(line)
		if ok != (err == nil) {
			t.Fatalf("%q: error %v, but encoding/json takes it: %t", line, err, ok)
		}
		got := fields.List
		if ok {
			n := 0
			for _, w := range want {
				if len(w.Name) > MaxName || strings.Contains(w.Value, "\uFFFD") || strings.Contains(w.Name, "__") {
					continue // what is no UTF-8 is another matter
				}
				for n < len(got) && (strings.ToValidUTF8(got[n].Value, "\uFFFD") != got[n].Value || strings.Contains(got[n].Value, "\uFFFD") || strings.Contains(got[n].Name, "__")) {
					n++
				}
				if n == len(got) || got[n] != w {
					t.Fatalf("%q: %s, want %v", line, rendered(&fields), want)
				}
				n++
			}
		}
		for _, x := range got {
			if len(x.Name) > MaxName || !clean(x.Name) || x.Value == "" {
				t.Fatalf("%q: the field %q=%q", line, x.Name, x.Value)
			}
			var one Fields
			if oneErr := NewJSON([]string{x.Name}).Scan(line, &one); !errors.Is(oneErr, err) {
				t.Fatalf("%q: %v, and for %s alone %v", line, err, x.Name, oneErr)
			}
			first, _ := fields.Get(x.Name)
			if v, ok := one.Get(x.Name); !ok || v != first {
				t.Fatalf("%q: %s is %q, alone %q", line, x.Name, first, v)
			}
			if len(got) > 20 {
				break
			}
		}
		if paths, pathErr := NewJSONPaths([]Expression{{"v", path}}); pathErr == nil {
			var at Fields
			if atErr := paths.Scan(line, &at); (atErr == nil) != (err == nil) {
				t.Fatalf("%q: %v, and for the path %q %v", line, err, path, atErr)
			}
		}
	})
}
