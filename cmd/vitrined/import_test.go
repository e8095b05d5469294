package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// What "vitrine config import" writes names settings of this daemon, with values of
// their types. The golden text is that command's own.
func TestImportedConfigurationIsUnderstood(t *testing.T) {
	config := imported(t, "import.txt")
	if config.Runtime.DefaultHandler != "crun" || config.Runtime.Handlers["crun"].Path != "/usr/bin/crun" || config.NRI.RequestTimeoutMilliseconds != 3000 ||
		!config.Runtime.Handlers["crun"].PrivilegedWithoutHostDevices || config.Runtime.Defaults.MinMemory != 12<<20 ||
		len(config.Runtime.Defaults.Devices) != 1 || config.Network.Sysctls["net.ipv4.ping_group_range"] != "0 1000" {
		t.Errorf("got %+v", config.Runtime)
	}
	config = imported(t, "import-all.txt")
	if config.Runtime.Handlers["same"].Path != "/usr/bin/crun" || config.Runtime.Handlers["box"].Shim == "" || !config.Runtime.Log.Journald || config.MetricsKeyFile == "" {
		t.Errorf("of every option: %+v", config.Runtime)
	}
}

// imported loads what stands before the notes of a golden text.
func imported(t *testing.T, name string) *Config {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../vitrine/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(string(raw), "-- notes --")
	if !ok {
		t.Fatal("the golden text has no notes")
	}
	file := filepath.Join(t.TempDir(), "vitrined.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var flags flagSet
	flags.register(pflag.NewFlagSet("test", pflag.ContinueOnError))
	flags.config = file
	config, err := loadConfig(flags)
	if err != nil {
		t.Fatal(err)
	}
	return config
}
