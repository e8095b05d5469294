// Package dashboards owns what people look at in Grafana. Dashboards are described
// in Go, and their JSON is committed beside it: `go generate ./dashboards` writes it
// anew, a test fails when the two differ. Queries may name only instruments of
// telemetry.Instruments, and labels that those have.
//
// It queries nothing and imports no room but telemetry's list.
package dashboards

//go:generate go test -run TestCommittedDashboardsAreGenerated . -update
