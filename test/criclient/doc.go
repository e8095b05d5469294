// Package criclient is the client's side of CRI streaming, for tests: it opens the
// URLs that Exec, Attach and PortForward return, over SPDY as kubelet and crictl do
// and over WebSocket as crictl --transport websocket does, with the same libraries
// as they use.
package criclient
