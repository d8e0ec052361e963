package client

import (
	"context"
	"fmt"
	"net/http"
)

// maxStatus bounds the answer of /status, in bytes.
const maxStatus = 64 << 20

// Status asks a node how it is and returns its JSON as it came.
func (c *Client) Status(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, fmt.Errorf("no answer within %s", c.options.Timeout))
	defer cancel()
	r, err := c.request(ctx, http.MethodGet, "status", nil, nil)
	if err != nil {
		return nil, err
	}
	code, header, body, err := c.whole(r, maxStatus)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, newStatusError(code, header, body)
	}
	return body, nil
}
