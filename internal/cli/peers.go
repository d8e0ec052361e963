package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// A Peer is one node of --peers.
type Peer struct {
	Name string // as given; of the form HOST: the host
	Host string // name or IP address, without brackets
	// URL is http://HOST:PORT or https://HOST:PORT. Empty: only the host was given.
	URL string
}

// maxPeers bounds the list; larger clusters are joined one by one.
const maxPeers = 1000

var errPeersMixed = errors.New("some entries have a name and others do not: write HOST,HOST,… or NAME=URL,NAME=URL,…")

// parsePeers reads HOST,HOST,… or NAME=URL,NAME=URL,…. The error is all faults joined.
func parsePeers(text string) ([]Peer, error) {
	var peers []Peer
	var faults []error
	seen := map[string]bool{}
	named := 0
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if len(peers) == maxPeers {
			return nil, fmt.Errorf("more than %d nodes", maxPeers)
		}
		peer, err := parsePeer(entry)
		if err == nil && seen[peer.Name] {
			err = errors.New("listed twice")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", display(entry), err))
			continue
		}
		if peer.URL != "" {
			named++
		}
		seen[peer.Name] = true
		peers = append(peers, peer)
	}
	if named > 0 && named < len(peers) {
		faults = append(faults, errPeersMixed)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return peers, nil
}

func parsePeer(entry string) (Peer, error) {
	name, address, named := strings.Cut(entry, "=")
	if !named {
		host := strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")
		if err := checkHost(host); err != nil {
			return Peer{}, err
		}
		return Peer{Name: host, Host: host}, nil
	}
	if err := checkNodeName(name); err != nil {
		return Peer{}, fmt.Errorf("name %w", err)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return Peer{}, errors.New("must be NAME=http://HOST:PORT or NAME=https://HOST:PORT")
	}
	if err := errors.Join(checkHost(u.Hostname()), checkPort(u.Port())); err != nil {
		return Peer{}, err
	}
	return Peer{Name: name, Host: u.Hostname(), URL: u.Scheme + "://" + net.JoinHostPort(u.Hostname(), u.Port())}, nil
}
