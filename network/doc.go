// Package network owns everything between a pod and the world: the pod's pinned
// namespaces, its attachment to a network through CNI, its host ports, and the
// look into its network namespace from outside (port forwarding, figures).
//
// It never runs a container and knows no state of one; who may attach when is
// lifecycle's decision. It never talks to a plugin but through libcni, and it holds
// no lock while a plugin runs: a plugin that hangs blocks its own call and no other.
//
// On disk, all of it private to one instance:
//
//	Config.Dir/                    tmpfs; gone after a boot
//	└── ID/
//	    ├── net                    bind mounts of /proc/…/ns/*: they keep the
//	    ├── ipc                    namespaces alive while no process is in them
//	    ├── uts
//	    └── user
//	Config.CacheDir/               survives a boot, as leases of IPAM plugins do
//	├── attachments/ID             what an ADD was run with; written before the first plugin
//	├── results/…                  libcni's cache of results, the next call's prevResult
//	├── leases/NETWORK/IP          host-local's leases of the embedded default
//	└── default.json               the subnets that the embedded default chose
//
// The invariant: an attachment's file is there from before the first plugin runs
// until the last DEL has succeeded, so whatever was begun can be undone with the
// very configuration it was begun with — after a crash, after the configuration
// changed, after the network namespace is gone.
package network
