package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// logFlags are the options of `vitrine logs`.
type logFlags struct {
	follow, previous, timestamps bool
	tail                         int
}

func logsCommand(o *options) *cobra.Command {
	var f logFlags
	c := &cobra.Command{
		Use:   "logs POD[/CONTAINER]",
		Short: "Print a container's log, its rotated files first; of one that is gone, what is kept",
		Long: `Print what a container wrote: the rotated files of its log, compressed ones too, then
the one that is written. Of a container whose log is gone with its pod, the last words
that the node keeps of those that failed.

POD is namespace/pod, a name or a uid; a pod with one container needs no CONTAINER.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: o.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			log, err := o.findLog(cmd.Context(), args[0], f.previous)
			if err != nil {
				return err
			}
			p := logPrinter{stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr(), timestamps: f.timestamps, json: o.json()}
			err = o.printLog(cmd.Context(), &p, log, f)
			if errors.Is(err, context.Canceled) {
				return nil // the person has seen enough
			}
			return err
		},
	}
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what is written, until the container ends or interrupted")
	c.Flags().BoolVarP(&f.previous, "previous", "p", false, "the attempt before the last")
	c.Flags().BoolVar(&f.timestamps, "timestamps", false, "print each line's time before it")
	c.Flags().IntVar(&f.tail, "tail", -1, "begin with so many of the last lines; -1: with the first line")
	return c
}

// findLog asks where the log of the container is whose pod and name are given.
func (o *options) findLog(ctx context.Context, subject string, previous bool) (api.Log, error) {
	logs, err := o.logsOf(ctx, subject)
	if err != nil {
		return api.Log{}, err
	}
	var names []string
	for _, l := range logs {
		if !slices.Contains(names, l.Container) {
			names = append(names, l.Container)
		}
	}
	switch {
	case len(logs) == 0:
		return api.Log{}, fmt.Errorf("%s has no container", subject)
	case len(names) > 1:
		return api.Log{}, fmt.Errorf("%s has several containers, name one: %s", logs[0].Pod, strings.Join(names, ", "))
	case previous && len(logs) < 2:
		return api.Log{}, fmt.Errorf("%s/%s has run once only", logs[0].Pod, logs[0].Container)
	case previous:
		return logs[len(logs)-2], nil
	}
	return logs[len(logs)-1], nil
}

// logsOf asks for all attempts. A container may be asked for by the name of its pod
// without the namespace, too.
func (o *options) logsOf(ctx context.Context, subject string) ([]api.Log, error) {
	ask := func(subject string) (logs []api.Log, err error) {
		return logs, o.get(ctx, "/v1/logs?"+url.Values{"subject": {subject}}.Encode(), &logs)
	}
	logs, err := ask(subject)
	owner, container, named := strings.Cut(subject, "/")
	if err == nil || !named || errors.Is(err, errNoDaemon) {
		return logs, err
	}
	if rest, last, deeper := cutLast(subject); deeper { // namespace/pod/container of one whose container is gone
		owner, container = rest, last
	}
	logs, again := ask(owner)
	if again != nil {
		return nil, err
	}
	logs = slices.DeleteFunc(logs, func(l api.Log) bool { return l.Container != container })
	if len(logs) == 0 {
		return nil, err
	}
	return logs, nil
}

func cutLast(s string) (rest, last string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// printLog prints one attempt's log from its files, or what is kept of it.
func (o *options) printLog(ctx context.Context, p *logPrinter, log api.Log, f logFlags) error {
	if log.Path == "" {
		return fmt.Errorf("the output of %s/%s was discarded: its pod has no log directory", log.Pod, log.Container)
	}
	err := p.files(log.Path, f.tail)
	if errors.Is(err, fs.ErrNotExist) {
		if log.Words == "" {
			return fmt.Errorf("the log of %s/%s is gone, and it left no last words (they are kept of containers that failed): %s", log.Pod, log.Container, log.Path)
		}
		fmt.Fprintf(p.stderr, "vitrine: the log is gone; these are the last words of %s\n", log.Container)
		_, err := fmt.Fprintln(p.stdout, strings.TrimRight(log.Words, "\n"))
		return err
	}
	if err != nil || !f.follow {
		return errors.Join(err, p.close())
	}
	defer p.close()
	return p.follow(ctx, log.Path, func() bool {
		logs, err := o.logsOf(ctx, cmp.Or(string(log.ID), log.Pod+"/"+log.Container))
		return err == nil && slices.ContainsFunc(logs, func(l api.Log) bool { return l.ID == log.ID && l.Ended })
	})
}
