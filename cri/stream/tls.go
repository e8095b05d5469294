package stream

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// secured returns the TLS settings, nil for none.
func secured(config Config) (*tls.Config, error) {
	if config.CertFile == "" && config.KeyFile == "" {
		return nil, nil
	}
	if config.CertFile == "" || config.KeyFile == "" {
		return nil, fmt.Errorf("%w: streaming TLS needs both cert_file and key_file", pod.ErrInvalid)
	}
	files := &certificate{cert: config.CertFile, key: config.KeyFile}
	if _, err := files.current(nil); err != nil {
		return nil, err
	}
	// Upgrades need HTTP/1.1.
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.current, NextProtos: []string{"http/1.1"}}, nil
}

// certificate follows a pair of files.
type certificate struct {
	cert, key string

	mu     sync.Mutex // guards the rest
	loaded *tls.Certificate
	at     time.Time
}

// current returns the pair as it is on disk, read again only when the certificate
// has changed. While the new pair is unusable the old one stays.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.cert)
	if err == nil && c.loaded != nil && info.ModTime().Equal(c.at) {
		return c.loaded, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(c.cert, c.key)
	switch {
	case err == nil && loadErr == nil:
		c.loaded, c.at = &pair, info.ModTime()
	case c.loaded == nil:
		return nil, fmt.Errorf("load the streaming certificate %s: %w", c.cert, loadErr)
	}
	return c.loaded, nil
}
