// # Templates and columns
//
// A line is literal, value, literal, …, value, literal: put together they are the line, byte
// for byte (Encode compares it, G3), so that the cut decides on size and speed and never on
// what is read, and may change without a change of the format. The literals, with what kind
// of value stands between them, are its template; the values of one slot of one template in
// one block are a column.
//
//	canonical form of a template, at most 16 KiB
//	  1  kind: 0 text, 1 JSON object, 2 logfmt
//	     literal, after its length (uvarint)
//	     for each slot, of which there are at most 255:
//	  1    what its values are: 0 one or more digits · 1 one or more ASCII letters and
//	       digits · 2 no space and no quote · 3 no quote but behind a backslash, as between
//	       the quotes of a string · 4 anything
//	       the literal behind it, after its length
//
// The kinds of values are promises that filters rely on. A line of JSON or logfmt is cut by
// its syntax: keys, punctuation and white space are literal, each value is a slot, of a
// string what stands between the quotes, and an array is one value. Any other line is cut
// at its digits: UUIDs and runs of letters and digits with a digit among them are values, but of
// "node12" and "10ms" only the number is. A line that is longer than 64 KiB or has more slots is stored as it is in
// FALLBACK. So is one whose template the segment does not know and the block has once
// only, and one whose template the segment has no room for: 32,768 templates of 4 MiB.
//
//	TID       for each row the lower byte of the place of its template in the block's
//	          directory, then for each row the higher byte; 65,535: none, see FALLBACK
//	COLUMNS   for each template of the directory five uvarints: the bytes of its part of the
//	              section that follows, and the bytes that its columns take in NUM, in ID, in
//	              STR and in BIN
//	          for each template its part: for each slot in turn a column
//
// The chunks of a kind NUM, ID, STR or BIN one behind the other are a stream, in which the
// payloads of columns follow each other: by template, by slot, and inside a column as
// below. A chunk ends behind the column with which it reaches 256 KiB: no column is split.
// A template's part may begin with a fold (below), and then has no columns for the slots
// of that. Within a column the values are in the order of rows. "Packed" means: n numbers of w
// bits each without gaps, low bits first, from the lowest bit of the first byte, filled up to
// a whole byte. "Planes" means: the lowest byte of all numbers, then the next ones, as many
// as w bits need. Numbers in COLUMNS are uvarints if nothing else is said.
//
//	column    encoding, then                                                payload
//	0 const   the value, after its length                                   none
//	1 number  format · parameter · smallest (varint) · w · [digits]         BIN: [lengths],
//	          the numbers less the smallest                                 packed
//	2 planes  as 1                                                          BIN: [lengths];
//	                                                                        NUM: planes
//	3 dict    values, at most 4,096: each after its length · ids            see ids
//	5 hex     0 lower case, 1 upper, and 2 more if they are UUIDs: 32       BIN: two digits in
//	          digits with '-' behind the 8th, 12th, 16th and 20th ·
//	          digits, the same for all values,
//	          1 to 1,024                                                    a byte, a last odd
//	                                                                        one in a whole byte
//	6 text    shortest length · w · bytes of all                            BIN: lengths less
//	                                                                        the shortest, packed;
//	                                                                        STR: the values
//	9 hex     as 5                                                          NUM: the first
//	  planes                                                                bytes of all
//	                                                                        values, then the
//	                                                                        second ones…
//	7 split   format, not 5 · parameter · k · leading numbers, at most      BIN: [lengths], ids
//	          4,096 · each of them · [digits] · ids. The number is          if packed, then the
//	          leading·10ᵏ + rest                                            rests packed, with
//	                                                                        the bits of 10ᵏ−1
//
//	ids       0 packed in BIN, with the bits of the largest id that the dictionary has
//	          1 planes in ID
//	          2 derived · an earlier slot of the template, whose ids are not derived · for
//	            each of that column's ids the id of this one: no payload
//
//	format    parameter          the number x is written as
//	0 decimal 0                  x, without zeros in front, with '-' if it is negative
//	1 fixed   digits, 1 to 18    as many digits, zeros in front
//	2 digits  0                  the length of each number stands in a column of lengths:
//	                             [digits] is the smallest length (1 to 18) and the w of the
//	                             lengths less the smallest, which are packed
//	3 point   1 to 18            decimal, with as many of its digits behind a point
//	4 IPv4    0                  four bytes of x as decimals with points between
//	5 time    pattern            RFC 3339 in UTC: x nanoseconds behind the row's timestamp,
//	                             rounded down to the pattern's unit. 0: a fraction of up to 9
//	                             digits without zeros at its end, unit 1 ns · 1: none, 1 s ·
//	                             2: three digits, 1 ms · 3: six, 1 µs · 4: nine, 1 ns
//
// # Folds
//
// The values of a log line's slots come together in few ways: the same message, thread and
// host, the same first digits of an address. A fold of a template lists these ways once for the
// whole segment: each combination of what some slots' values are, or begin with, is a
// variant. A block then stores for each row its variant, and of a slot whose values the
// variant does not say whole the last digits.
//
//	DICT      uvarint: folds. For each, in the order of their first use, which numbers them,
//	          after its length (uvarint), all in uvarints:
//	            template · slots, at most 64, for each: slots between it and the one before ·
//	              d, 0 to 18: at most so many digits of a value stand in the block
//	            variants, at most 65,536
//	            for each slot: values, for each of them d less the digits that follow it, and
//	              its length; the bytes of all values; and if there is more than one value,
//	              for each variant which of them it has
//	COLUMNS   a template's part, if it begins with 8: 8 fold · number · n: the rows' variants
//	          are below it · ids as of a dictionary of n, but not derived. Then come the
//	          columns of the slots that the fold does not have.
//
// The last digits of a folded slot with d > 0 are a number, packed in BIN with the bits of
// 10ᵈ−1 where a column of the slot would have its payload; a value with fewer of them, down
// to none, has the number of those. A block that needs a way that no variant is adds a variant,
// at its end: what others refer to does not change. Where the rows of a template are no
// longer like those that it was chosen for, another fold of the template takes its place.
// A file with folds has the required feature bit 0.
//
// A number is stored as one only if writing it gives the same bytes: numbers of at most 18
// digits, times from the year 1700 to 2200. Which encoding is used is the writer's
// choice: const, then numbers (planes from 96 rows on, split from 24 rows on if that is
// smaller), dict if values repeat, hex from 96 rows on, text. Numbers with few distinct values become dict.
//
// A reader refuses what is not of this form. That includes streams that do not have the
// size that COLUMNS says, a template whose columns end elsewhere than its five numbers say,
// ids beyond their dictionary and a TID whose counts are not those of the directory. What is
// of this form and not what was written is found by the digest (Verify, ResumeOpen).
//
// # Search in columns
//
// Line filters and aggregations are answered from columns as they would be from lines (Q1):
//
//   - C1 For each filter, template and segment it is decided once, from the literals and from the kinds of
//     values and what FILTERS says of them, whether every line of the template passes, none does, those whose values
//     satisfy one of at most 24 alternatives, each being conditions on slots (contains, begins
//     with, ends with, equals), or whether lines must be looked at. The first three are exact.
//     Where a search for alternatives takes more than 4,096 steps, the lines are looked at.
//   - C2 Exact are texts, any number of them, and expressions that are nothing but alternatives
//     of texts, in one case or, if they are ASCII without k and s, which fold to letters
//     beyond it, in either. Other expressions are matched on lines, but only where the texts
//     hold that every match must contain, and if what is around a match does not count (no anchors) only on
//     the window that it can be in: what of a line is between two bytes of literals that no match can
//     hold. Of a window whose one slot has a dictionary each value is matched once.
//   - C3 A negative filter passes just what the positive one does not.
//   - C4 A condition reads its column only if const, dictionary, or the bytes that the format
//     can make do not already decide. Dictionaries are tested once for each value.
//   - C5 A value that is taken alone out of a column is the value of the decoded column.
//   - C6 An aggregation over fields is answered from columns if its pipeline begins with its
//     only parser (json or logfmt), what it is to extract can be named, the block has no
//     structured metadata, and the measure is not bytes; then for each template of the parser's kind in which each field
//     that is asked for is one slot, whatever the values, and whose values in this block need
//     no unescaping and cannot make the line wrong. All other lines are put together and
//     run through the pipeline.
//   - C7 What FILTERS rules out is not there: no value of a slot holds another byte, is shorter or
//     longer than it says, none that is listed is missing in the filter of values, and no gram of
//     a line without a template or of a grammed value in that of grams. A text that is as long as the
//     longest value is contained only by being it. A block for which nothing is left is not read.
//   - C8 Where all rows of a block make one series and fall into one window, they are counted by the
//     directory's numbers of rows and the columns, without a look at which row has which
//     template, unless a stream has a label of a name that the pipeline or the grouping looks at.
//   - C9 A log query whose pipeline begins with its only parser keeps or drops rows by columns under the
//     conditions of C6, for the fields that its filters look at. Only what is returned is put
//     together and run through the pipeline, then with all fields.
package segment
