package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxRow bounds one row of an answer, in bytes: a line of 16 MiB whose every byte JSON
// writes as six characters, with its labels, stays below.
const maxRow = 128 << 20

// Rows is the answer to a query, row by row:
//
//	for rows.Next() {
//		use(rows.Bytes())
//	}
//	err := rows.Err()
type Rows struct {
	answer   io.ReadCloser
	buffer   *bufio.Reader
	row      []byte
	long     []byte // holds a row that is longer than the buffer
	limit    int    // of long, in bytes
	warnings []string
	err      error
}

// A Row is an entry of a log query, or a series of a metric query.
type Row struct {
	Labels map[string]string `json:"labels"`

	// Of an entry: time, line and structured metadata. A line that is not valid UTF-8
	// arrives in base64, as JSON cannot hold it.
	Time       time.Time         `json:"time"`
	Line       *string           `json:"line"`
	LineBase64 []byte            `json:"line_base64"`
	Metadata   map[string]string `json:"metadata"`

	// Of a series: one value at Time, or several at the times of their own.
	Value  *Number `json:"value"`
	Values []Point `json:"values"`
}

func newRows(answer io.ReadCloser) *Rows {
	return &Rows{answer: answer, buffer: bufio.NewReaderSize(answer, 64<<10), limit: maxRow}
}

// Next goes on to the next row. It returns false at the end and on an error.
func (r *Rows) Next() bool {
	for r.err == nil {
		row, err := r.read()
		if err != nil && !errors.Is(err, io.EOF) {
			r.err = err
			return false
		}
		if row = bytes.TrimSpace(row); len(row) > 0 && !r.note(row) {
			// After an io.EOF the next read yields it again.
			r.row = row
			return true
		}
		if err != nil {
			r.err = io.EOF
		}
	}
	return false
}

// read reads up to and with the next '\n'.
func (r *Rows) read() ([]byte, error) {
	part, err := r.buffer.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return part, err
	}
	r.long = append(r.long[:0], part...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(r.long) > r.limit {
			return nil, fmt.Errorf("row of over %d bytes in the answer", r.limit)
		}
		part, err = r.buffer.ReadSlice('\n')
		r.long = append(r.long, part...)
	}
	return r.long, err
}

// note takes the objects that are not rows: warnings and the error that ended the
// answer. They begin with that key, so that rows need not be parsed to tell.
func (r *Rows) note(row []byte) bool {
	if !bytes.HasPrefix(row, []byte(`{"error"`)) && !bytes.HasPrefix(row, []byte(`{"warnings"`)) {
		return false
	}
	var object struct {
		Warnings []string `json:"warnings"`
	}
	if err := json.Unmarshal(row, &object); err != nil {
		r.err = fmt.Errorf("not understood in the answer: %w", err)
		return true
	}
	r.warnings = append(r.warnings, object.Warnings...)
	if message := errorMessage(row); message != "" && bytes.HasPrefix(row, []byte(`{"error"`)) {
		r.err = &StreamError{Message: message}
	}
	return true
}

// Bytes is the current row as the server wrote it: a JSON object without a line end.
// It is valid until the next call of Next.
func (r *Rows) Bytes() []byte { return r.row }

// Row is the current row.
func (r *Rows) Row() (*Row, error) {
	row := new(Row)
	if err := json.Unmarshal(r.row, row); err != nil {
		return nil, fmt.Errorf("not understood in the answer: %w", err)
	}
	return row, nil
}

// Buffered reports whether a further row, or a part of one, has been received already.
func (r *Rows) Buffered() bool { return r.buffer.Buffered() > 0 }

// Warnings says what the answer lacks, as the server told so far.
func (r *Rows) Warnings() []string { return r.warnings }

// Err returns what ended the rows early, or nil.
func (r *Rows) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// Close ends the answer, also before its end: the server then stops searching.
func (r *Rows) Close() error { return r.answer.Close() }
