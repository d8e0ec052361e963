package segment

import "encoding/binary"

// A shredder cuts a line into the literals of a template and the values of its slots.
// Line = literal, value, literal, value, …, literal: putting them together again is the
// line, whatever the cut. So the cut decides on speed and size, never on what is
// read, and can improve without a change of the format.
type shredder struct {
	key    []byte // canonical form of the template: each literal after its length
	values []slotValue
	kind   templateKind

	start int // of the literal being gathered
}

// A slotValue is where the value of a slot stands in the line.
type slotValue struct{ start, end uint32 }

type templateKind uint8

// How a line was cut. The kind is part of a template's key.
const (
	templateText templateKind = iota
	templateJSON
	templateLogfmt
)

const (
	maxSlots         = 255
	maxTemplateKey   = 16 << 10 // bytes of the literals of a template
	maxShredLine     = 64 << 10 // longer lines are not cut
	maxTemplates     = 32768    // of a segment
	maxTemplateBytes = 4 << 20  // of a segment's templates
)

// slotKind says what values a slot can have. It is part of the template's key.
type slotKind uint8

const (
	slotDigits slotKind = iota // one or more digits
	slotWord                   // one or more letters and digits
	slotBare                   // anything but spaces and quotes
	slotQuoted                 // anything but a quote that has no backslash before it
	slotAny
	slotKinds
)

// byte classes
const (
	classOther = iota
	classDigit
	classHex    // a-f, A-F
	classLetter // g-z, G-Z
)

var byteClass = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = classDigit
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = classLetter, classLetter
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c], t[c-'a'+'A'] = classHex, classHex
	}
	return t
}()

// shred cuts a line. It returns false if the line is to be stored as it is.
func (s *shredder) shred(line []byte) bool {
	if len(line) > maxShredLine {
		return false
	}
	if n := len(line); n > 1 && line[0] == '{' && line[n-1] == '}' {
		s.begin(templateJSON)
		if s.json(line) && s.end(line) {
			return true
		}
	} else if looksLikeLogfmt(line) {
		s.begin(templateLogfmt)
		if s.logfmt(line) && s.end(line) {
			return true
		}
	}
	s.begin(templateText)
	return s.text(line) && s.end(line)
}

func (s *shredder) begin(kind templateKind) {
	s.key, s.values, s.kind, s.start = append(s.key[:0], byte(kind)), s.values[:0], kind, 0
}

// slot ends the literal before line[start:end] and makes that a value.
func (s *shredder) slot(line []byte, start, end int, kind slotKind) bool {
	s.key = binary.AppendUvarint(s.key, uint64(start-s.start))
	s.key = append(s.key, line[s.start:start]...)
	s.key = append(s.key, byte(kind))
	s.values = append(s.values, slotValue{uint32(start), uint32(end)})
	s.start = end
	return len(s.values) <= maxSlots
}

func (s *shredder) end(line []byte) bool {
	s.key = binary.AppendUvarint(s.key, uint64(len(line)-s.start))
	s.key = append(s.key, line[s.start:]...)
	return len(s.key) <= maxTemplateKey
}

// text cuts by runs of letters and digits: digits are values, letters are literal,
// and runs of both are a value unless they read like "node12" or "10ms".
func (s *shredder) text(line []byte) bool {
	for i := 0; i < len(line); {
		if byteClass[line[i]] == classOther {
			i++
			continue
		}
		start := i
		if isUUID(line[i:]) {
			if i += uuidLength; !s.slot(line, start, i, slotBare) {
				return false
			}
			continue
		}
		var seen [4]int
		firstDigit, lastDigit := -1, -1
		for i < len(line) {
			c := byteClass[line[i]]
			if c == classOther {
				break
			}
			seen[c]++
			if c == classDigit {
				if firstDigit < 0 {
					firstDigit = i
				}
				lastDigit = i
			}
			i++
		}
		if firstDigit < 0 {
			continue
		}
		from, to := start, i
		switch digits := lastDigit - firstDigit + 1; {
		case digits != seen[classDigit]: // letters in between: an id
		case lastDigit == i-1 && seen[classLetter] > 0: // node12
			from = firstDigit
		case lastDigit == i-1 && firstDigit > start && firstDigit-start <= 8 && digits <= 6: // be12
			from = firstDigit
		case firstDigit == start && i-1-lastDigit <= 3 && seen[classLetter] > 0: // 10ms
			to = lastDigit + 1
		}
		kind := slotDigits
		if to-from != seen[classDigit] {
			kind = slotWord
		}
		if !s.slot(line, from, to, kind) {
			return false
		}
	}
	return true
}

const uuidLength = 36

// isUUID reports whether a UUID as RFC 9562 writes them stands at the beginning of b, by
// itself. Cut like other text its groups without a digit would make a template each.
func isUUID(b []byte) bool {
	if len(b) < uuidLength || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' ||
		len(b) > uuidLength && byteClass[b[uuidLength]] != classOther {
		return false
	}
	for i, c := range b[:uuidLength] {
		if class := byteClass[c]; class != classDigit && class != classHex && i != 8 && i != 13 && i != 18 && i != 23 {
			return false
		}
	}
	return true
}

// looksLikeLogfmt reports whether a line begins with key=value and has a second pair.
func looksLikeLogfmt(line []byte) bool {
	i := keyEnd(line, 0)
	if i <= 0 {
		return false
	}
	for j := i; j < len(line); j++ {
		if line[j] == ' ' {
			if k := keyEnd(line, j+1); k > j+1 {
				return true
			}
			return false
		}
		if line[j] == '"' {
			return true // a quoted value; what follows is seen when it is cut
		}
	}
	return false
}

// keyEnd returns where the '=' of a key at i stands, or -1.
func keyEnd(line []byte, i int) int {
	start := i
	for i < len(line) && (byteClass[line[i]] != classOther || line[i] == '_' || line[i] == '.' || line[i] == '-') {
		i++
	}
	if i > start && i < len(line) && line[i] == '=' {
		return i
	}
	return -1
}

// logfmt cuts key=value pairs, one space between them: keys are literal, values are
// values; of a quoted one what stands between the quotes.
func (s *shredder) logfmt(line []byte) bool {
	for i := 0; i < len(line); {
		eq := keyEnd(line, i)
		if eq < 0 {
			return false
		}
		i = eq + 1
		if i < len(line) && line[i] == '"' {
			j := i + 1
			for j < len(line) && line[j] != '"' {
				if line[j] == '\\' {
					j++
				}
				j++
			}
			if j >= len(line) || !s.slot(line, i+1, j, slotQuoted) {
				return false
			}
			i = j + 1
		} else {
			j := i
			for j < len(line) && line[j] != ' ' {
				if line[j] == '"' || line[j] == '=' {
					return false
				}
				j++
			}
			if !s.slot(line, i, j, slotBare) {
				return false
			}
			i = j
		}
		if i < len(line) {
			if line[i] != ' ' {
				return false
			}
			i++
		}
	}
	return true
}

// json cuts an object: keys, punctuation and white space are literal; of each string
// what stands between the quotes is a value, and so is every number and word. An array is one value.
func (s *shredder) json(line []byte) bool {
	i, ok := s.jsonObject(line, 0, 0)
	return ok && i == len(line)
}

const maxShredDepth = 16

func skipSpace(line []byte, i int) int {
	for i < len(line) && (line[i] == ' ' || line[i] == '\t' || line[i] == '\n' || line[i] == '\r') {
		i++
	}
	return i
}

// jsonString returns where the string that begins with the quote at i ends, behind its
// closing quote.
func jsonString(line []byte, i int) (int, bool) {
	for i++; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return i + 1, true
		case c == '\\':
			i++
		case c < 0x20:
			return 0, false
		}
	}
	return 0, false
}

func (s *shredder) jsonObject(line []byte, i, depth int) (int, bool) {
	if depth > maxShredDepth {
		return 0, false
	}
	i = skipSpace(line, i+1)
	if i < len(line) && line[i] == '}' {
		return i + 1, true
	}
	for i < len(line) {
		if line[i] != '"' {
			return 0, false
		}
		end, ok := jsonString(line, i)
		if !ok {
			return 0, false
		}
		i = skipSpace(line, end)
		if i >= len(line) || line[i] != ':' {
			return 0, false
		}
		i = skipSpace(line, i+1)
		if i, ok = s.jsonValue(line, i, depth); !ok {
			return 0, false
		}
		i = skipSpace(line, i)
		if i >= len(line) {
			return 0, false
		}
		if line[i] == '}' {
			return i + 1, true
		}
		if line[i] != ',' {
			return 0, false
		}
		i = skipSpace(line, i+1)
	}
	return 0, false
}

func (s *shredder) jsonValue(line []byte, i, depth int) (int, bool) {
	if i >= len(line) {
		return 0, false
	}
	switch line[i] {
	case '{':
		return s.jsonObject(line, i, depth+1)
	case '"':
		end, ok := jsonString(line, i)
		return end, ok && s.slot(line, i+1, end-1, slotQuoted)
	case '[':
		end, ok := jsonArray(line, i)
		return end, ok && s.slot(line, i, end, slotAny)
	}
	j := i
	for j < len(line) && line[j] != ',' && line[j] != '}' && line[j] > ' ' && line[j] != '"' {
		j++
	}
	return j, j > i && s.slot(line, i, j, slotBare)
}

// jsonArray returns where the array that begins at i ends.
func jsonArray(line []byte, i int) (int, bool) {
	depth := 0
	for i < len(line) {
		switch line[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1, true
			}
		case '"':
			end, ok := jsonString(line, i)
			if !ok {
				return 0, false
			}
			i = end
			continue
		}
		i++
	}
	return 0, false
}
