// Package spec turns kubelet's request, the image's configuration and what is known
// of the host into an OCI runtime specification.
//
// Everything here is a function of its arguments: nothing is opened, looked up,
// logged or timed. Whoever calls has resolved mount sources, read the image's
// passwd and group files, parsed a seccomp profile and asked the kernel for its
// abilities; the results arrive in Input. The same input gives the same
// specification, which the golden files in testdata show.
//
// Whatever comes from the request or the image is foreign: it is checked and
// bounded here, and a refusal is one line that names the field and its value and
// wraps pod.ErrInvalid. Annotations and labels, of request or image, never choose
// what is done.
package spec
