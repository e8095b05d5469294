package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Dial connects to a TCP port on the loopback of the network namespace at netnsPath,
// IPv4 first, then IPv6; an empty path is the host's namespace. The connection stays
// in that namespace wherever it is used, and belongs to the caller.
func Dial(ctx context.Context, netnsPath string, port int32) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("%w: port %d: ports are 1 to 65535", pod.ErrInvalid, port)
	}
	var conn net.Conn
	err := inNetNS(netnsPath, func() error {
		// Literal addresses: neither a resolver nor a second goroutine, which would
		// be in another namespace, comes in.
		var dialer net.Dialer
		var errs []error
		for _, host := range []string{"127.0.0.1", "::1"} {
			c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
			if err == nil {
				conn = c
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of the pod: %w", port, err)
	}
	return conn, nil
}
