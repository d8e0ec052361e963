package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultURL is where a node listens that was started without options.
const DefaultURL = "http://127.0.0.1:3100"

// DefaultTimeout bounds one attempt at a request with a short answer.
const DefaultTimeout = 60 * time.Second

// Options says which server to speak to, and how. The zero value speaks to a node on
// this machine as tenant "default".
type Options struct {
	// URL is the base address of a node: http://HOST:PORT, https://HOST:PORT or
	// HOST:PORT, also with a path prefix. Empty: DefaultURL.
	URL string
	// Tenant is sent as X-Scope-OrgID. Empty: no header, which is tenant "default".
	Tenant string
	// UserAgent names the program to the server. Empty: "logcluster-client".
	UserAgent string
	// Timeout bounds each attempt of Ingest and Status, from the dial to the last byte of
	// the answer. 0: DefaultTimeout. Queries are bounded by their context alone.
	Timeout time.Duration
	// Compress sends batches gzipped. It pays on a network and not on a loopback.
	Compress bool
	// Retry says how long and how often Ingest tries again.
	Retry Retry
	// HTTP carries the requests. Nil: a client of its own, with connections to the one
	// server kept open until Close.
	HTTP *http.Client
}

// A Client sends requests to one node. Make it with New and Close it.
type Client struct {
	options Options
	base    *url.URL
	http    *http.Client
	own     *http.Transport // nil if Options.HTTP was given
}

// New returns a client. It does not connect yet. The error says what is wrong with the
// options.
func New(o Options) (*Client, error) {
	base, err := ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.UserAgent == "" {
		o.UserAgent = "logcluster-client"
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	o.Retry = o.Retry.withDefaults()
	c := &Client{options: o, base: base, http: o.HTTP}
	if c.http == nil {
		c.own = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
			// On a loopback the server's compressing costs more than the bytes.
			DisableCompression: Loopback(base),
		}
		c.http = &http.Client{Transport: c.own}
	}
	return c, nil
}

// Close closes the connections that are idle. Requests under way end with their contexts.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// URL is the base address of the server, without a password.
func (c *Client) URL() string { return c.base.Redacted() }

// ParseURL reads a server's base address as Options.URL describes it.
func ParseURL(text string) (*url.URL, error) {
	if text == "" {
		text = DefaultURL
	}
	whole := text
	if !strings.Contains(whole, "://") {
		whole = "http://" + whole
	}
	u, err := url.Parse(whole)
	if err != nil {
		// The text of a url.Error holds the address, and with it a password.
		if fault := (*url.Error)(nil); errors.As(err, &fault) {
			err = fault.Err
		}
		return nil, fmt.Errorf("not a URL (%w): write it like %s", err, DefaultURL)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("URL scheme %q: must be http or https, as in %s", u.Scheme, DefaultURL)
	case u.Hostname() == "":
		return nil, fmt.Errorf("URL without a host: write it like %s", DefaultURL)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("URL with a query or a fragment: give the address alone, like %s", DefaultURL)
	}
	return u, nil
}

// Loopback reports whether a URL's host is this machine by its name or address.
func Loopback(u *url.URL) bool {
	host := u.Hostname()
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// request makes a request for a path below the base address.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", c.options.UserAgent)
	if c.options.Tenant != "" {
		r.Header.Set("X-Scope-OrgID", c.options.Tenant)
	}
	return r, nil
}

// send sends a request. An error means that there was no answer.
func (c *Client) send(r *http.Request) (*http.Response, error) {
	response, err := c.http.Do(r)
	if err != nil {
		return nil, c.lost(r, err)
	}
	return response, nil
}

// lost turns a failure below HTTP into an error that says which server did not answer.
func (c *Client) lost(r *http.Request, err error) error {
	// A url.Error repeats the method and the address with all labels or the query.
	if fault := (*url.Error)(nil); errors.As(err, &fault) {
		err = fault.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(r.Context())
	}
	return &connectionError{fmt.Errorf("%s: %w", c.URL(), err)}
}
