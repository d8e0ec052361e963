// Package field takes log lines apart with LogQL's rules: JSON objects and logfmt pairs
// into named fields, and texts into numbers, durations and byte sizes. It is the one place
// where these rules stand: rows are read by it, and columns must answer as it does.
//
// The rules are those that Grafana Loki documents
// (https://grafana.com/docs/loki/latest/query/log_queries/#parser-expression):
//
//	json              every scalar of the object is a field. The names of nested ones are
//	                  joined by _, arrays are skipped: {"a.b":{"c":"d"},"e":[1]} is a_b_c=d
//	json x="a[0].b"   the value at a path. Objects and arrays are returned as they stand
//	logfmt            key=value and key="quoted value"; faulty pairs are skipped
//	logfmt --strict   the first faulty pair ends the scan with an error
//	logfmt x="key"    the value of a key
//
// What the documentation leaves open is decided so:
//
//	F1  A JSON line is right if, and only if, it is one object by RFC 8259 (as
//	    encoding/json's Valid sees it) with white space round it, nests at most MaxDepth
//	    levels deep and, without expressions, has at most MaxFields scalars. Whether a line
//	    is right does not depend on which fields are wanted.
//	F2  A line that is not right yields the fields that stand before the fault, and an error.
//	F3  Numbers, true and false are returned as they are written; null and "" are no field,
//	    and neither is a logfmt key without a value, unless KeepEmpty is set or an expression
//	    asks for the key. Of fields with one name the first counts.
//	F4  Strings are unescaped as encoding/json does: half of a surrogate pair is U+FFFD. Bytes
//	    that are no UTF-8 stay as they are.
//	F5  Names are made of letters, digits and _: each other character (each byte, where the
//	    name is no UTF-8) becomes _, and a leading digit gets one before it. A field without
//	    a name, or whose name is longer than MaxName, is left out.
//
// Nothing here keeps state between lines but the memory of a Fields, and nothing allocates
// once that has grown. No input makes it panic; time and memory are in proportion to the
// line's length, but for the names of nested fields, which MaxFields and MaxName bound.
package field
