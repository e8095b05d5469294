# The CNI reference plugins that the embedded default network needs, from the module
# that go.mod pins as tools. Any plugin installed on the host takes precedence.

CNI_MODULE  := github.com/containernetworking/plugins/plugins
CNI_PLUGINS := main/bridge ipam/host-local main/loopback meta/portmap meta/firewall

.PHONY: cni
cni: ## the CNI reference plugins, into bin/cni/
	@mkdir -p $(BIN)/cni
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/cni/ $(addprefix $(CNI_MODULE)/,$(CNI_PLUGINS))
