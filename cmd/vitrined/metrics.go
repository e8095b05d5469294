package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
)

// listenMetrics opens the metrics listener, with TLS where the configuration has a
// certificate. One that cannot be read is an error now, and at each later connection.
func listenMetrics(c *Config) (net.Listener, error) {
	if (c.MetricsCertFile == "") != (c.MetricsKeyFile == "") {
		return nil, errors.New("metrics_cert_file and metrics_key_file go together")
	}
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.MetricsCertFile, c.MetricsKeyFile)
		return &pair, err
	}
	if c.MetricsCertFile != "" {
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
	}
	if c.MetricsTokenFile != "" {
		if _, err := readToken(c.MetricsTokenFile); err != nil {
			return nil, err
		}
	}
	listener, err := listenAny(c.MetricsListen)
	if err != nil || c.MetricsCertFile == "" {
		return listener, err
	}
	return tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: load}), nil
}

// readToken refuses an empty file: it would let everybody in.
func readToken(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read token: %w", err)
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		return nil, fmt.Errorf("read token: %s is empty", path)
	}
	return raw, nil
}

// withToken lets requests with the file's token through; without a file, all.
func withToken(path string, next http.Handler) http.Handler {
	if path == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := readToken(path)
		if err != nil {
			slog.WarnContext(r.Context(), "nobody can be let in to the metrics", "error", err)
			http.Error(w, "the token cannot be read", http.StatusServiceUnavailable)
			return
		}
		have, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		a, b := sha256.Sum256([]byte(have)), sha256.Sum256(want) // equal lengths: the time tells nothing
		if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="vitrine"`)
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
