package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Bounds of wiping: how long one removal may take, how many go on at once, and how
// large an answer may be.
const (
	removalTime  = 2 * time.Minute
	removals     = 4
	maxCRIAnswer = 64 << 20
)

func wipeCommand(o *options) *cobra.Command {
	var yes, images bool
	var socket string
	c := &cobra.Command{
		Use:   "wipe --yes",
		Short: "Stop and remove every pod and, with --images, every image",
		Long: `Stop and remove every pod of the daemon and, with --images, every image.
It asks the daemon as a kubelet would, so that networks, mounts and layers go the
ordinary way. A kubelet that still runs will make its pods again: stop it first.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return errors.New("wipe removes every pod of this node; say --yes")
			}
			return o.wipe(cmd.Context(), cmp.Or(socket, filepath.Join(o.state, "vitrine.sock")), images, cmd.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "really do it")
	c.Flags().BoolVar(&images, "images", false, "remove images too")
	c.Flags().StringVar(&socket, "socket", "", "CRI socket of the daemon (default STATE/vitrine.sock)")
	return c
}

func (o *options) wipe(ctx context.Context, socket string, images bool, w io.Writer) error {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxCRIAnswer)))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	defer conn.Close()
	pods := runtime.NewRuntimeServiceClient(conn)
	listing, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	list, err := pods.ListPodSandbox(listing, &runtime.ListPodSandboxRequest{})
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("%w on %s", errNoDaemon, socket)
	}
	if err != nil {
		return fmt.Errorf("list pods: %s", status.Convert(err).Message())
	}
	var work []removal
	for _, sb := range list.GetItems() {
		m := sb.GetMetadata()
		work = append(work, removal{"pod " + m.GetNamespace() + "/" + m.GetName(), func(ctx context.Context) error {
			if _, err := pods.StopPodSandbox(ctx, &runtime.StopPodSandboxRequest{PodSandboxId: sb.GetId()}); err != nil {
				return err
			}
			_, err := pods.RemovePodSandbox(ctx, &runtime.RemovePodSandboxRequest{PodSandboxId: sb.GetId()})
			return err
		}})
	}
	if err := removeAll(ctx, work, w); err != nil || !images {
		return err
	}
	return wipeImages(ctx, runtime.NewImageServiceClient(conn), w)
}

func wipeImages(ctx context.Context, images runtime.ImageServiceClient, w io.Writer) error {
	listing, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	list, err := images.ListImages(listing, &runtime.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("list images: %s", status.Convert(err).Message())
	}
	var work []removal
	for _, image := range list.GetImages() {
		name := image.GetId()
		if tags := image.GetRepoTags(); len(tags) > 0 {
			name = tags[0]
		}
		work = append(work, removal{"image " + name, func(ctx context.Context) error {
			_, err := images.RemoveImage(ctx, &runtime.RemoveImageRequest{Image: &runtime.ImageSpec{Image: image.GetId()}})
			return err
		}})
	}
	return removeAll(ctx, work, w)
}

// removal is one thing to remove.
type removal struct {
	name string
	do   func(context.Context) error
}

// removeAll goes on after failures and returns them all.
func removeAll(ctx context.Context, work []removal, w io.Writer) error {
	var mu sync.Mutex // guards failed and w
	var failed []error
	var running sync.WaitGroup
	slots := make(chan struct{}, removals)
	for _, r := range work {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, removalTime)
			defer cancel()
			err := r.do(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("remove %s: %s", r.name, status.Convert(err).Message()))
				return
			}
			fmt.Fprintf(w, "removed %s\n", oneLine(r.name, 200))
		})
	}
	running.Wait()
	return errors.Join(failed...)
}
