package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"
)

// maxSettingsFile bounds the file of settings, in bytes.
const maxSettingsFile = 1 << 20

// settingsFile is the flat YAML file that --config names.
type settingsFile struct {
	path   string
	values map[string]fileValue // by key
}

// A fileValue is a scalar of the file.
type fileValue struct {
	text string // as it is written, without quotes
	tag  string // its YAML type: !!str, !!int, …
	line int
	bad  bool // a fault of the file has been told already
}

// readSettingsFile reads a file and checks all that can be checked without knowing the
// command: that it is flat, has each key once, and only keys that some command knows.
// The error is all faults joined; what is right is returned beside it.
func readSettingsFile(path string, known []string) (*settingsFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("settings file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettingsFile+1))
	if err != nil {
		return nil, fmt.Errorf("settings file: %w", err)
	}
	if len(text) > maxSettingsFile {
		return nil, fmt.Errorf("settings file %s: larger than %d bytes", path, maxSettingsFile)
	}
	return parseSettingsFile(path, text, known)
}

func parseSettingsFile(path string, text []byte, known []string) (*settingsFile, error) {
	file := &settingsFile{path: path, values: map[string]fileValue{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return file, nil // an empty file sets nothing
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document: write all settings in one, without a line of ---", path)
	}
	top := document.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return file, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: not a list of settings: write a line like\n  listen: 127.0.0.1:3100", path, top.Line)
	}
	var faults []error
	for i := 0; i+1 < len(top.Content); i += 2 {
		if err := file.add(top.Content[i], top.Content[i+1], known); err != nil {
			faults = append(faults, err)
		}
	}
	return file, errors.Join(faults...)
}

// add takes one key and its value.
func (f *settingsFile) add(key, value *yaml.Node, known []string) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("%s:%d: %s: %w", f.path, key.Line, key.Value, fmt.Errorf(format, args...))
	}
	if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
		return fmt.Errorf("%s:%d: not a setting: the file is flat, each line a name and a value", f.path, key.Line)
	}
	if !slices.Contains(known, key.Value) {
		return fault("unknown setting%s", didYouMean(key.Value, "%s", known))
	}
	if before, ok := f.values[key.Value]; ok {
		return fault("set already on line %d: remove one of the two", before.line)
	}
	var err error
	switch {
	case value.Kind == yaml.AliasNode || value.Anchor != "":
		err = fault("anchors are not read here: write the value itself")
	case value.Kind != yaml.ScalarNode:
		err = fault("nested value: the file is flat; write a list as one text with commas")
	case value.ShortTag() == "!!null":
		err = fault("no value: give one, or remove the line")
	}
	// A bad value is entered too, so that its repetition is found.
	f.values[key.Value] = fileValue{text: value.Value, tag: value.ShortTag(), line: key.Line, bad: err != nil}
	return err
}

// check says what is wrong with the type of a value for a setting of a kind.
func (v *fileValue) check(k kind) error {
	right, want := []string{"!!str", "!!int", "!!float", "!!timestamp"}, "a text: put it in quotes"
	switch k {
	case kindNumber:
		right, want = []string{"!!int"}, "a whole number, without quotes"
	case kindSwitch:
		right, want = []string{"!!bool"}, "true or false, without quotes"
	case kindDuration:
		right, want = []string{"!!str", "!!int"}, "a duration like 12h"
	case kindSize:
		right, want = []string{"!!str", "!!int"}, "a size like 1MiB"
	}
	if !slices.Contains(right, v.tag) {
		return fmt.Errorf("must be %s", want)
	}
	return nil
}
