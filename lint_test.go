package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/logcluster/logcluster/"

// imports is the import table: what a package of this module may import of the others.
// The data's way is the order of the folders; nothing points backwards.
var imports = map[string][]string{
	"":                     {"cluster", "http", "internal/cli", "logql", "segment", "shard", "internal/vfs"}, // main wires
	"internal/vfs":         {},
	"internal/vfs/vfstest": {"internal/vfs"},
	"segment":              {"internal/vfs", "segment/field"},
	"segment/field":        {},
	"shard":                {"segment", "internal/vfs"},
	"logql":                {"segment", "segment/field"},
	"cluster":              {"shard", "segment", "logql", "internal/vfs"},
	"backup":               {"segment", "internal/vfs"},
	"http":                 {"segment", "logql", "http/ui"},
	"http/client":          {},
	"http/ui":              {},
	"internal/cli":         {"http/client", "segment", "backup", "internal/vfs"},
	"internal/clustertest": {"cluster", "http", "logql", "segment", "shard", "internal/vfs"},
}

// testImports are further packages that only tests may import.
var testImports = []string{"internal/vfs", "internal/vfs/vfstest", "internal/clustertest"}

// reserved says which files of a package may import a family of foreign packages.
var reserved = []struct {
	prefix string // of the import path
	in     string // package
	file   string // prefix of the file's name
	why    string
}{
	{"go.etcd.io/", "cluster", "etcd", "the rest of cluster sees etcd as Meta, which has an in-memory twin"},
	{"google.golang.org/grpc", "cluster", "grpc", "the rest of cluster sees other nodes as Peer, which has an in-memory twin"},
	{"github.com/urfave/cli", "internal/cli", "", "commands stand in one place"},
}

// pure packages do no I/O over a network, and logql has no clock either.
var pure = map[string][]string{
	"logql": {"net/http", "net", "os"},
	"shard": {"net/http", "net"},
}

// foreign lists what a package may import from outside the standard library, where
// that is restricted.
var foreign = map[string][]string{
	"http/client":   {"go.uber.org/zap"},
	"internal/vfs":  {"golang.org/x/sys"},
	"segment/field": {},
}

type sourceFile struct {
	folder, name string
	test         bool
	syntax       *ast.File
	set          *token.FileSet
	lines        int
}

func sources(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "data") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(p))
		if folder == "." {
			folder = ""
		}
		files = append(files, sourceFile{folder, d.Name(), strings.HasSuffix(p, "_test.go"), syntax, set, set.File(syntax.Pos()).LineCount()})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d source files were found: the test looks in the wrong place", len(files))
	}
	return files
}

func TestImportTable(t *testing.T) {
	for _, f := range sources(t) {
		allowed, known := imports[f.folder]
		if !known {
			t.Errorf("%s: folder %q is not in the import table: add it with a reason, or put the file elsewhere", f.name, f.folder)
			continue
		}
		for _, spec := range f.syntax.Imports {
			p := strings.Trim(spec.Path.Value, `"`)
			at := path.Join(f.folder, f.name)
			if own, ok := strings.CutPrefix(p, module); ok {
				fine := slices.Contains(allowed, own) || f.test && (slices.Contains(testImports, own) || own == f.folder)
				if !fine {
					t.Errorf("%s imports %s: %s may import only %v", at, own, f.folder, allowed)
				}
				if own == "http" && (spec.Name == nil || spec.Name.Name != "httpd") {
					t.Errorf("%s imports our http without the name httpd: it is mixed up with net/http", at)
				}
				continue
			}
			for _, r := range reserved {
				if strings.HasPrefix(p, r.prefix) && !(f.folder == r.in && strings.HasPrefix(f.name, r.file)) {
					t.Errorf("%s imports %s: only files %s*.go of %s may, since %s", at, p, r.file, r.in, r.why)
				}
			}
			if slices.Contains(pure[f.folder], p) && !f.test {
				t.Errorf("%s imports %s: %s must not", at, p, f.folder)
			}
			if list, ok := foreign[f.folder]; ok && !f.test && strings.Contains(strings.SplitN(p, "/", 2)[0], ".") {
				if !slices.ContainsFunc(list, func(prefix string) bool { return strings.HasPrefix(p, prefix) }) {
					t.Errorf("%s imports %s: %s may import only the standard library and %v", at, p, f.folder, list)
				}
			}
		}
	}
}

// TestPackageDocs: every package says what it is, in a comment that godoc shows.
func TestPackageDocs(t *testing.T) {
	documented := map[string]bool{}
	folders := map[string]bool{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		folders[f.folder] = true
		if f.syntax.Doc != nil {
			documented[f.folder] = true
		}
		for _, c := range f.syntax.Comments {
			// A comment that ends just above `package` but is not its doc is lost to godoc.
			gap := f.set.Position(f.syntax.Package).Line - f.set.Position(c.End()).Line
			if c != f.syntax.Doc && gap == 2 && !strings.HasPrefix(c.List[0].Text, "//go:build") {
				t.Errorf("%s/%s: a blank line parts the package comment from its package", f.folder, f.name)
			}
		}
	}
	for folder := range folders {
		if !documented[folder] {
			t.Errorf("package in %q has no package comment", folder)
		}
	}
}

// TestShape: one idea a file, no package state, no init.
func TestShape(t *testing.T) {
	for _, f := range sources(t) {
		at := path.Join(f.folder, f.name)
		if f.lines > 800 && !strings.HasSuffix(f.name, ".pb.go") {
			t.Errorf("%s has %d lines: split it, about 500 are one idea", at, f.lines)
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function: what it sets up belongs to whoever needs it", at)
			}
		}
	}
}
