// Package cri is the daemon's surface to kubelet: the RuntimeService and the
// ImageService of CRI v1 over gRPC.
//
// It decides nothing about pods. It checks the shape of requests, asks lifecycle
// and image, and puts their answers into CRI's words:
//
//	door.go      what every call passes: validation, panics, error → code
//	validate.go  the shape of requests
//	errors.go    error → gRPC code, the only place
//	status.go    pod's values → CRI statuses, states
//	list.go      filters, lists, the streaming lists
//	stats.go     figures
//	events.go    the stream of container events
//	stream/      the data side of Exec, Attach and PortForward
//
// Rules: an unknown ID is NotFound, except for Stop*, Remove* and RemoveImage, which
// succeed because what they want is so. An ID may be a unique prefix. What this
// version cannot do is Unimplemented, never a success that did nothing.
package cri
