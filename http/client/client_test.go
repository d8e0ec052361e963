package client

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTest returns a client of a server with one handler. Both end with the test.
func newTest(t *testing.T, o Options, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	o.URL = s.URL
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestParseURL(t *testing.T) {
	good := func(text, want string) {
		t.Helper()
		u, err := ParseURL(text)
		if err != nil || u.String() != want {
			t.Errorf("ParseURL(%q) = %v, %v; want %s", text, u, err, want)
		}
	}
	good("", "http://127.0.0.1:3100")
	good("host:3100", "http://host:3100")
	good("[::1]:3100", "http://[::1]:3100")
	good("https://host/prefix", "https://host/prefix")
	bad := func(text string) {
		t.Helper()
		if u, err := ParseURL(text); err == nil {
			t.Errorf("ParseURL(%q) = %v, want an error", text, u)
		}
	}
	bad("ftp://host")
	bad("http://")
	bad("http://host?a=b")
	bad("http://host#a")
	bad("http://ho st")
	bad("http://host:port")
	if _, err := ParseURL("http://user:secret@ho st"); err == nil || len(err.Error()) == 0 || contains(err.Error(), "secret") {
		t.Errorf("error %v: want one without the password", err)
	}
}

func TestLoopback(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		u, err := ParseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		if Loopback(u) != want {
			t.Errorf("Loopback(%s) = %t", text, !want)
		}
	}
	f("http://localhost:1", true)
	f("127.1.2.3:1", true)
	f("[::1]:1", true)
	f("10.0.0.1:1", false)
	f("example.org", false)
}

// TestRequest looks at what is the same for all requests.
func TestRequest(t *testing.T) {
	var path, tenant, agent string
	c := newTest(t, Options{Tenant: "blue", UserAgent: "test/1"}, func(w http.ResponseWriter, r *http.Request) {
		path, tenant, agent = r.URL.Path, r.Header.Get("X-Scope-OrgID"), r.Header.Get("User-Agent")
	})
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	if path != "/status" || tenant != "blue" || agent != "test/1" {
		t.Errorf("path %q, tenant %q, agent %q", path, tenant, agent)
	}
}

// TestErrorsAreShort: what cannot be reached is named by its address, without the labels
// and without a password.
func TestErrorsAreShort(t *testing.T) {
	c, err := New(Options{URL: "http://user:secret@127.0.0.1:1", Retry: Retry{For: -1}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Ingest(t.Context(), Batch{Labels: map[string]string{"app": "web"}, Body: []byte("x")})
	if !Unreachable(err) || !contains(err.Error(), "@127.0.0.1:1: ") || contains(err.Error(), "web") || contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
