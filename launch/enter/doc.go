// Package enter is the contract with vitrine-enter, which starts a process in a running
// container where that needs nothing but namespaces, cgroups, a user, capabilities, limits
// and a filter. Three parties meet here: the launcher leaves the container's Facts when it
// has created it, and the filter of a profile when it first had libcontainer load it; the
// daemon makes a Plan of both and of the command's process; vitrine-enter does the plan.
//
// Whatever is missing, odd or refused on this way leads back to libcontainer, which does
// the session or says why it cannot be. Nothing here decides what a container may do: each
// value is libcontainer's own or that of the OCI process.
package enter
