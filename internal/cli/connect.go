package cli

import (
	"errors"
	"fmt"

	"github.com/logcluster/logcluster/http/client"
	"github.com/logcluster/logcluster/segment"
)

// server is the node that a command speaks to.
type server struct {
	url, tenant string
}

// settings are the flags of all commands that speak to a node.
func (s *server) settings() []*setting {
	return []*setting{
		textSetting("url", "URL", client.DefaultURL, "Address of any node: http://HOST:PORT, https://HOST:PORT or HOST:PORT.", func(text string) error {
			_, err := client.ParseURL(text)
			return err
		}, &s.url),
		textSetting("tenant", "NAME", "default", "Whose logs: 1 to 64 of letters, digits, '_', '.' and '-'.", func(text string) error {
			if !segment.ValidTenant(text) {
				return errors.New("must be 1 to 64 of letters, digits, '_', '.' and '-'")
			}
			return nil
		}, &s.tenant),
	}
}

// connect makes a client. It does not connect yet.
func (p *program) connect(s *server, retry client.Retry) (*client.Client, error) {
	u, err := client.ParseURL(s.url)
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{
		URL:       s.url,
		Tenant:    s.tenant,
		UserAgent: "logcluster/" + p.Version.Version,
		Compress:  !client.Loopback(u),
		Retry:     retry,
	})
}

// explain adds to an error of a request what the user can do about it. The query, if
// there is one, is shown with a mark under the place that the server names.
func explain(err error, query string) error {
	var status *client.StatusError
	switch {
	case errors.As(err, &status):
		if query != "" {
			if mark := caret(status.Message, query); mark != "" {
				return fmt.Errorf("%w\n%s", err, mark)
			}
		}
	case client.Unreachable(err):
		return fmt.Errorf("%w\nIs a node running there? Start one with \"logcluster start\", or name another with --url.", err)
	}
	return err
}
