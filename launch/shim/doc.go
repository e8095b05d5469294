// Package shim drives a runtime through containerd's shim v2 interface (task API over
// ttrpc): kata, runsc, and containerd-shim-runc-v2, with which it is tested. It answers
// package launch's contract, as launch/libct does for binaries, in a program of its own
// (cmd/vitrine-shim), so that a native container's launcher stays small.
//
// A shim is the parent of its containers, and some have their processes inside a
// virtual machine. So a process that the monitor can wait for stands for each of them:
//
//	monitor ── keeper ──ttrpc──► shim ── container
//	   ▲ pipes ──────────────────┘
//
// The keeper has the container's streams, waits for its end, and ends with its status.
// A signal that it gets it passes on; launch.KeeperKill stands for SIGKILL, which cannot be
// caught. It writes the status down before it ends, and a keeper that was killed is
// replaced by OpWatch: it has no state but what the shim and the bundle know.
//
// Each container has a shim of its own. The bundle for it lies below the container's
// directory, because shims write files there whose names are their own business:
//
//	BUNDLE/shim/ID/
//	├── config.json   hard link
//	├── address       the shim's socket
//	├── log           what the shim says
//	├── task          the container's process id
//	├── in, out       fifos, where the keeper carries a stream itself
//	└── ended         the status, in decimal
//
// Source: containerd, core/runtime/v2/README.md and api/runtime/task/v2/shim.proto; ttrpc,
// PROTOCOL.md. The few messages are written by hand: the library would bring grpc's
// codes and protobuf's reflection into a process that lives as long as the container.
package shim
