package launch

// Features is what a runtime handler can do on this host: what the runtime knows of,
// and what the kernel has been asked and found to support. A list is sorted.
type Features struct {
	// Runtime and Version name the runtime, for example "libcontainer" "1.5.2".
	Runtime string `json:"runtime"`
	Version string `json:"version"`
	// OCIVersion is the newest version of the OCI runtime specification it accepts.
	OCIVersion string `json:"ociVersion,omitempty"`
	// RecursiveReadOnlyMounts: the mount option "rro" is known and the kernel has mount_setattr.
	RecursiveReadOnlyMounts bool `json:"recursiveReadOnlyMounts"`
	// UserNamespaces: the kernel lets a container have its own user namespace, and
	// IDMappedMounts can be made for its volumes.
	UserNamespaces bool `json:"userNamespaces"`
	// IDMappedMounts: the runtime makes them and the kernel has them.
	IDMappedMounts bool `json:"idMappedMounts"`
	// Checkpoint: the runtime says that it makes and restores checkpoints with criu.
	// Whether there is a criu that works here is not its to say.
	Checkpoint bool `json:"checkpoint"`
	// Seccomp lists are empty when filters are not supported.
	SeccompActions       []string `json:"seccompActions,omitempty"`
	SeccompArchitectures []string `json:"seccompArchitectures,omitempty"`
	SeccompFlags         []string `json:"seccompFlags,omitempty"`
	// Apparmor and Selinux are switched on in this kernel.
	Apparmor bool `json:"apparmor"`
	Selinux  bool `json:"selinux"`
	// Namespaces, Capabilities, Hooks and MountOptions are what a specification may name.
	Namespaces   []string `json:"namespaces,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
	Hooks        []string `json:"hooks,omitempty"`
	MountOptions []string `json:"mountOptions,omitempty"`
}
