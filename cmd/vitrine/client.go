package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// errNoDaemon: nobody answers on the socket.
var errNoDaemon = errors.New("no daemon answers")

// maxAnswer bounds one answer, in bytes.
const maxAnswer = 64 << 20

// answerTime bounds one answer that is no stream.
const answerTime = 15 * time.Second

// open asks the daemon; the caller closes the body.
func (o *options) open(ctx context.Context, path string) (io.ReadCloser, error) {
	return o.send(ctx, http.MethodGet, path)
}

// send asks the daemon to do something; the caller closes the body of the answer.
func (o *options) send(ctx context.Context, method, path string) (io.ReadCloser, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, o.socket()) },
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://vitrine"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, o.unanswered(err)
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		return nil, refusal(answer)
	}
	return answer.Body, nil
}

// unanswered says in one line why there is no answer.
func (o *options) unanswered(err error) error {
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return fmt.Errorf("the socket %s is for root only", o.socket())
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: there is no socket %s (is vitrined running? other instances: --state)", errNoDaemon, o.socket())
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w on %s: vitrined is not running", errNoDaemon, o.socket())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the daemon on %s does not answer within %s", o.socket(), answerTime)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	}
	return fmt.Errorf("ask the daemon on %s: %w", o.socket(), err)
}

// refusal is the daemon's own word for what is wrong.
func refusal(answer *http.Response) error {
	var problem struct {
		Error string `json:"error"`
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err == nil && json.Unmarshal(body, &problem) == nil && problem.Error != "" {
		return errors.New(problem.Error)
	}
	return fmt.Errorf("the daemon answers %s", answer.Status)
}

// get asks for one JSON value.
func (o *options) get(ctx context.Context, path string, value any) error {
	return o.fetch(ctx, http.MethodGet, path, answerTime, value)
}

// fetch is get for other methods, and for answers that take longer.
func (o *options) fetch(ctx context.Context, method, path string, bound time.Duration, value any) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	body, err := o.send(ctx, method, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(value); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// copy asks for one JSON value and passes it on as it is.
func (o *options) copy(ctx context.Context, path string, w io.Writer) error {
	var raw json.RawMessage
	if err := o.get(ctx, path, &raw); err != nil {
		return err
	}
	return printJSON(w, raw)
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// dialUnix enters the directory by descriptor: a socket's address has room for 107
// bytes only.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	return (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}
