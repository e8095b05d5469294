package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/pod"
)

// PullImage fetches an image and returns its ID, which is also the image_id of
// containers made from it.
func (s *imageService) PullImage(ctx context.Context, r *runtime.PullImageRequest) (*runtime.PullImageResponse, error) {
	if err := s.pods.CheckHandler(r.GetImage().GetRuntimeHandler()); err != nil {
		return nil, err
	}
	pulled, err := s.images.Pull(ctx, image.PullRequest{
		Ref: r.GetImage().GetImage(), Auth: auth(r.GetAuth()), Namespace: r.GetSandboxConfig().GetMetadata().GetNamespace(),
	})
	if err != nil {
		return nil, err
	}
	return &runtime.PullImageResponse{ImageRef: pulled.ID}, nil
}

func auth(a *runtime.AuthConfig) *image.Auth {
	if a == nil {
		return nil
	}
	return &image.Auth{
		Username: a.GetUsername(), Password: a.GetPassword(), Auth: a.GetAuth(), ServerAddress: a.GetServerAddress(),
		IdentityToken: a.GetIdentityToken(), RegistryToken: a.GetRegistryToken(),
	}
}

// ListImages lists images; with a filter, the one image that it names.
func (s *imageService) ListImages(ctx context.Context, r *runtime.ListImagesRequest) (*runtime.ListImagesResponse, error) {
	items, err := s.list(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	response := &runtime.ListImagesResponse{Images: items}
	return response, fits(proto.Size(response), len(items), "StreamImages")
}

// StreamImages is ListImages in pieces.
func (s *imageService) StreamImages(r *runtime.StreamImagesRequest, out grpc.ServerStreamingServer[runtime.StreamImagesResponse]) error {
	items, err := s.list(out.Context(), r.GetFilter())
	if err != nil {
		return err
	}
	return inChunks(items, func(items []*runtime.Image) error {
		return out.Send(&runtime.StreamImagesResponse{Images: items})
	})
}

func (s *imageService) list(ctx context.Context, f *runtime.ImageFilter) ([]*runtime.Image, error) {
	var found []image.Image
	var err error
	if ref := f.GetImage().GetImage(); ref != "" {
		var one image.Image
		if one, err = s.images.Status(ctx, ref); err == nil {
			found = []image.Image{one}
		}
		err = ignoreNotFound(err)
	} else {
		found, err = s.images.List(ctx)
	}
	if err != nil {
		return nil, err
	}
	items := make([]*runtime.Image, len(found))
	for i, one := range found {
		items[i] = imageItem(one)
	}
	return items, nil
}

// ImageStatus tells about an image; an answer without one means that it is absent.
func (s *imageService) ImageStatus(ctx context.Context, r *runtime.ImageStatusRequest) (*runtime.ImageStatusResponse, error) {
	found, err := s.images.Status(ctx, r.GetImage().GetImage())
	if errors.Is(err, pod.ErrNotFound) {
		return &runtime.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	response := &runtime.ImageStatusResponse{Image: imageItem(found)}
	if r.GetVerbose() {
		raw, err := json.Marshal(map[string]any{"imageSpec": found.Config, "digest": found.Digest})
		if err != nil {
			return nil, fmt.Errorf("encode image status: %w", err)
		}
		response.Info = map[string]string{"info": string(raw)}
	}
	return response, nil
}

// RemoveImage removes an image with all its names. An absent image is removed.
func (s *imageService) RemoveImage(ctx context.Context, r *runtime.RemoveImageRequest) (*runtime.RemoveImageResponse, error) {
	if err := ignoreNotFound(s.images.Remove(ctx, r.GetImage().GetImage())); err != nil {
		return nil, err
	}
	return &runtime.RemoveImageResponse{}, nil
}

// ImageFsInfo tells how much disk images and containers use.
func (s *imageService) ImageFsInfo(ctx context.Context, _ *runtime.ImageFsInfoRequest) (*runtime.ImageFsInfoResponse, error) {
	info, err := s.images.FsInfo(ctx)
	if err != nil {
		return nil, err
	}
	use := func(u image.Usage) []*runtime.FilesystemUsage {
		return []*runtime.FilesystemUsage{filesystemUsage(info.At, info.Mountpoint, u.Bytes, u.Inodes)}
	}
	return &runtime.ImageFsInfoResponse{ImageFilesystems: use(info.Images), ContainerFilesystems: use(info.Containers)}, nil
}

func imageItem(i image.Image) *runtime.Image {
	item := &runtime.Image{
		Id: i.ID, RepoTags: i.RepoTags, RepoDigests: i.RepoDigests, Size: i.Size, Pinned: i.Pinned,
		Spec: &runtime.ImageSpec{Image: i.ID},
	}
	item.Uid, item.Username = imageUser(i.User)
	return item
}

// imageUser is the image's user as a number or as a name; neither means root.
func imageUser(user string) (*runtime.Int64Value, string) {
	name, _, _ := strings.Cut(user, ":")
	if uid, err := strconv.ParseInt(name, 10, 64); err == nil && uid >= 0 && uid <= math.MaxInt32 {
		return &runtime.Int64Value{Value: uid}, ""
	}
	return nil, name
}
