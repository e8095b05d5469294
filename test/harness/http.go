package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an HTTP answer, in bytes.
const maxAnswer = 16 << 20

// Get fetches a path from the daemon's admin socket.
func (in *Instance) Get(path string) (string, error) { return get("unix", in.API(), path) }

// Metrics fetches the daemon's /metrics page in text format.
func (in *Instance) Metrics() (string, error) { return in.Scrape("/metrics") }

// Scrape fetches a page of the daemon's metrics in text format.
func (in *Instance) Scrape(path string) (string, error) {
	if socket, is := strings.CutPrefix(in.MetricsListen(), "unix:"); is {
		return get("unix", socket, path)
	}
	return get("tcp", in.MetricsListen(), path)
}

func get(network, address, path string) (string, error) {
	client := http.Client{
		Timeout: Scale(5 * time.Second),
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}},
	}
	r, err := client.Get("http://vitrine" + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("get %s: %w", path, err)
	}
	if r.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s: %.200s", path, r.Status, body)
	}
	return string(body), nil
}
