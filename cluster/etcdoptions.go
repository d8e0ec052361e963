package cluster

import (
	"fmt"
	"net"
	"net/url"
	"sort"
	"strings"

	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const (
	// Heartbeat and election timeout, ms: with them, the death of the leader costs about half a second (architecture.md).
	etcdTickMs     = 100
	etcdElectionMs = 500
	// The most learners a cluster can have. A member with a lower limit than there are learners refuses to start, so this
	// number is the same in all releases and never lowered.
	etcdMaxLearners = 1000
	// Changes kept for watches that lag, and the distance at which the members' contents are compared.
	etcdRetention = "1000"
	// Default of etcdOptions.QuotaBytes. The metadata is a few MiB; a full quota stops changes, never the logs.
	etcdQuotaBytes = 512 << 20
	// Room for etcd's own framing around a transaction of MaxTxnBytes.
	etcdRequestBytes = 2 * MaxTxnBytes
)

// etcdOptions says how the node's etcd member runs.
type etcdOptions struct {
	Dir  string // The member's folder. Required.
	Name string // The node's name. Required.
	// Listen is HOST:PORT for the other members (--etcd-listen); HOST an IP or localhost. Port 0 chooses a free one.
	// Required.
	Listen string
	// Advertise is the HOST:PORT at which the others reach it; "": Listen.
	Advertise string
	// HTTP is the base URL of the node's own HTTP port, http://HOST:PORT. etcd's guard against a member that lost its
	// data looks at it; nobody calls it. Required.
	HTTP string
	// InitialCluster lists the voters of a new cluster, this node too; empty: this node alone. A member that has data
	// goes by that.
	InitialCluster []etcdPeer
	// Insecure allows plain text beyond loopback.
	Insecure bool
	// CheckCorruption compares contents with the other members before it serves (architecture.md says when to); it must
	// be false for a member that is alone.
	CheckCorruption bool
	QuotaBytes      int64       // Size at which etcd refuses changes; 0: 512 MiB.
	UnsafeNoFsync   bool        // Loses data at a power loss: for tests.
	Logger          *zap.Logger // nil: none. Of etcd's messages, warnings and worse are logged.
}

// etcdPeer is one voter of a new cluster.
type etcdPeer struct {
	Name string
	URL  string // Where the others reach it, http://HOST:PORT.
}

func (o etcdOptions) withDefaults() etcdOptions {
	if o.QuotaBytes == 0 {
		o.QuotaBytes = etcdQuotaBytes
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

func (o etcdOptions) check() error {
	if err := checkName(o.Name); err != nil {
		return err
	}
	if http, err := url.Parse(o.HTTP); err != nil || http.Hostname() == "" || http.Port() == "" {
		return fmt.Errorf("the node's HTTP address %q is not http://HOST:PORT; name a host in --listen", o.HTTP)
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("%w: %q is not HOST:PORT, like 127.0.0.1:2380: %w", ErrEtcdListen, o.Listen, err)
	}
	ip := net.ParseIP(host)
	if ip == nil && host != "localhost" {
		return fmt.Errorf("%w: the host of %q must be an IP address or localhost: etcd binds to addresses, not to names", ErrEtcdListen, o.Listen)
	}
	if ip != nil && !ip.IsLoopback() && !o.Insecure {
		return fmt.Errorf("%w: %q can be reached from other machines, and what is said there is plain text that anybody may read and change; use a loopback address, like 127.0.0.1:2380", ErrEtcdListen, o.Listen)
	}
	if port == "0" && len(o.InitialCluster) > 1 {
		return fmt.Errorf("%w: %q lets the system choose a port, but the other members must know it; name one", ErrEtcdListen, o.Listen)
	}
	if ip != nil && ip.IsUnspecified() && o.Advertise == "" {
		return fmt.Errorf("%w: %q is all addresses of this machine; name the one that the other nodes use", ErrEtcdListen, o.Listen)
	}
	return nil
}

// address is where to listen, and whether that is a port chosen now because it was free.
func (o etcdOptions) address() (address string, chosen bool, err error) {
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil || port != "0" {
		return o.Listen, false, err
	}
	// etcd writes the address it advertises to its log before it listens, so the port must be known before.
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return "", false, fmt.Errorf("%w: find a free port: %w", ErrEtcdListen, err)
	}
	_, port, err = net.SplitHostPort(listener.Addr().String())
	if closeErr := listener.Close(); err == nil {
		err = closeErr
	}
	return net.JoinHostPort(host, port), true, err
}

// peerURL is where the other members reach this one.
func (o etcdOptions) peerURL(address string) string {
	if o.Advertise != "" {
		address = o.Advertise
	}
	return "http://" + address
}

// initialCluster is InitialCluster in etcd's notation.
func (o etcdOptions) initialCluster(address string) string {
	if len(o.InitialCluster) == 0 {
		return o.Name + "=" + o.peerURL(address)
	}
	members := make([]string, 0, len(o.InitialCluster))
	for _, peer := range o.InitialCluster {
		members = append(members, peer.Name+"="+peer.URL)
	}
	sort.Strings(members)
	return strings.Join(members, ",")
}

// config is all of this in etcd's terms.
func (o etcdOptions) config(address string, logger *zap.Logger) (*embed.Config, error) {
	listen, err := url.Parse("http://" + address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEtcdListen, err)
	}
	advertise, err := url.Parse(o.peerURL(address))
	if err != nil {
		return nil, fmt.Errorf("address for the other metadata members: %w", err)
	}
	http, err := url.Parse(o.HTTP)
	if err != nil {
		return nil, fmt.Errorf("address of the node's HTTP port: %w", err)
	}
	c := embed.NewConfig()
	c.Dir, c.Name = o.Dir, o.Name
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*listen}, []url.URL{*advertise}
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, []url.URL{*http}
	c.InitialCluster = o.initialCluster(address)
	c.InitialClusterToken = "logcluster"
	c.TickMs, c.ElectionMs = etcdTickMs, etcdElectionMs
	c.MaxLearners = etcdMaxLearners
	c.MaxTxnOps, c.MaxRequestBytes = MaxTxnOps, etcdRequestBytes
	c.QuotaBackendBytes = o.QuotaBytes
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, etcdRetention
	c.UnsafeNoFsync = o.UnsafeNoFsync
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	gates, ok := c.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return nil, fmt.Errorf("etcd's feature gates cannot be set: they are a %T", c.ServerFeatureGate)
	}
	if err := gates.SetFromMap(map[string]bool{"CompactHashCheck": true, "InitialCorruptCheck": o.CheckCorruption}); err != nil {
		return nil, fmt.Errorf("set etcd's feature gates: %w", err)
	}
	return c, nil
}
