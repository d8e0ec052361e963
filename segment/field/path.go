package field

import (
	"fmt"
	"strconv"
	"strings"
)

// A step of a path: a key, or an index of an array.
type step struct {
	key   string
	index int // -1: key counts
}

// A path leads from the object of a line to a value.
type path struct {
	label string
	steps []step
}

// maxSteps bounds a path: deeper values are refused anyway.
const maxSteps = MaxDepth

// CheckPath reports what is wrong with the path of a JSON expression. A path is made of
// keys, .key, ["any key"] and [index]: a.b[0]["c d"]. Keys without quotes are names as
// labels are (F5).
func CheckPath(p string) error {
	_, err := parsePath(p)
	return err
}

func parsePath(p string) ([]step, error) {
	var steps []step
	for i := 0; i < len(p); {
		switch c := p[i]; {
		case c == '[':
			s, n, err := bracket(p[i:])
			if err != nil {
				return nil, fmt.Errorf("%w at byte %d", err, i)
			}
			steps = append(steps, s)
			i += n
		case c == '.' || len(steps) == 0:
			if c == '.' && len(steps) > 0 {
				i++
			}
			end := i
			for end < len(p) && classes[p[end]]&(classLetter|classDigit) != 0 {
				end++
			}
			if end == i || classes[p[i]] == classDigit {
				return nil, fmt.Errorf("a key is expected at byte %d; keys that are no names stand in brackets and quotes: [\"a-b\"]", i)
			}
			steps = append(steps, step{p[i:end], -1})
			i = end
		default:
			return nil, fmt.Errorf("`.` or `[` is expected at byte %d", i)
		}
		if len(steps) > maxSteps {
			return nil, fmt.Errorf("more than %d steps", maxSteps)
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("it is empty")
	}
	return steps, nil
}

// bracket reads [0] or ["key"] and returns its length.
func bracket(p string) (s step, length int, err error) {
	if strings.HasPrefix(p, `["`) {
		quoted, err := strconv.QuotedPrefix(p[1:])
		if err != nil || !strings.HasPrefix(p[1+len(quoted):], "]") {
			return s, 0, fmt.Errorf("the quoted key is not closed by \"]")
		}
		key, err := strconv.Unquote(quoted)
		return step{key, -1}, len(quoted) + 2, err
	}
	end := strings.IndexByte(p, ']')
	if end < 0 {
		return s, 0, fmt.Errorf("the bracket is not closed")
	}
	n, err := strconv.ParseUint(p[1:end], 10, 31)
	if err != nil || p[1] == '+' {
		return s, 0, fmt.Errorf("an index such as [0] or a quoted key such as [\"key\"] is expected")
	}
	return step{"", int(n)}, end + 1, nil
}

// JSONPaths reads the values at given paths of a JSON object. It is immutable.
type JSONPaths struct {
	paths []path
	all   uint64 // a bit for each
}

// NewJSONPaths returns a parser for at most MaxExpressions expressions. Their labels must
// differ.
func NewJSONPaths(expressions []Expression) (*JSONPaths, error) {
	if len(expressions) > MaxExpressions {
		return nil, fmt.Errorf("%d json expressions: at most %d are allowed", len(expressions), MaxExpressions)
	}
	j := &JSONPaths{}
	for i, e := range expressions {
		steps, err := parsePath(e.Path)
		if err != nil {
			return nil, fmt.Errorf("the json expression %q is wrong: %w", e.Path, err)
		}
		j.paths = append(j.paths, path{e.Label, steps})
		j.all |= 1 << i
	}
	return j, nil
}

// Scan adds the values that a line has to f.
func (j *JSONPaths) Scan(line []byte, f *Fields) error {
	s := jsonScanner{b: line, text: text(line), f: f, paths: j.paths}
	return s.document(func() error { return s.follow(j.all, 0) })
}

// follow reads a value, to which the first depth steps of the active paths lead.
func (s *jsonScanner) follow(active uint64, depth int) error {
	active &^= s.done
	if active == 0 {
		return s.skip()
	}
	// Those that end here, and those that go on.
	var ending, object, array uint64
	for i := range s.paths {
		p := &s.paths[i]
		switch bit := uint64(1) << i; {
		case active&bit == 0:
		case len(p.steps) == depth:
			ending |= bit
		case p.steps[depth].index < 0:
			object |= bit
		default:
			array |= bit
		}
	}
	start := s.i
	var value string
	var escaped bool
	var err error
	switch s.b[s.i] {
	case '{':
		err = s.followObject(object, depth)
		value = s.text[start:s.i]
	case '[':
		err = s.followArray(array, depth)
		value = s.text[start:s.i]
	default:
		value, escaped, err = s.scalar()
	}
	if err != nil || ending == 0 || value == "" {
		return err
	}
	if escaped {
		value = s.unescaped(value)
	}
	for i := range s.paths {
		if ending&^s.done&(1<<i) != 0 {
			s.f.List = append(s.f.List, Field{s.paths[i].label, value})
		}
	}
	s.done |= ending
	return nil
}

func (s *jsonScanner) followObject(active uint64, depth int) error {
	empty, err := s.enter('}')
	for more := !empty; err == nil && more; {
		key, escaped, err := s.key()
		if err != nil {
			return err
		}
		from := len(s.f.buffer)
		if escaped && active != 0 {
			key = s.unescaped(key)
		}
		var next uint64
		if active != 0 {
			for i := range s.paths {
				if bit := uint64(1) << i; active&bit != 0 && s.paths[i].steps[depth].key == key {
					next |= bit
				}
			}
		}
		s.f.buffer = s.f.buffer[:from]
		if err = s.follow(next, depth+1); err != nil {
			return err
		}
		if more, err = s.next('}'); err != nil {
			return err
		}
	}
	return err
}

func (s *jsonScanner) followArray(active uint64, depth int) error {
	empty, err := s.enter(']')
	more := !empty
	for n := 0; err == nil && more; n++ {
		if s.i == len(s.b) {
			return ErrSyntax
		}
		var next uint64
		if active != 0 {
			for i := range s.paths {
				if bit := uint64(1) << i; active&bit != 0 && s.paths[i].steps[depth].index == n {
					next |= bit
				}
			}
		}
		if err = s.follow(next, depth+1); err == nil {
			more, err = s.next(']')
		}
	}
	return err
}
