package pod

import "errors"

// Sentinel errors. Rooms wrap them with what they were doing and to what; callers
// branch with errors.Is. The gRPC code of each is chosen in one place, cri/errors.go.
var (
	// ErrNotFound: the named object does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: an object with this identity exists already.
	ErrExists = errors.New("already exists")
	// ErrInvalid: the request itself is wrong and will stay wrong.
	ErrInvalid = errors.New("invalid argument")
	// ErrState: the object is in a state that does not allow the operation.
	ErrState = errors.New("wrong state")
	// ErrUnsupported: this build, kernel or handler cannot do it; the text names the feature.
	ErrUnsupported = errors.New("not supported")
	// ErrUnavailable: try again later; nothing was changed.
	ErrUnavailable = errors.New("unavailable")
	// ErrDeadline: a time bound of the request was hit, for example an exec's timeout.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrExhausted: a bound on bytes, entries or attempts was hit; the text has the number.
	ErrExhausted = errors.New("resource exhausted")
	// ErrDenied: a policy or a registry refused.
	ErrDenied = errors.New("permission denied")
	// ErrBug: a bug of ours, found by a panic; trying again may help, changing the request may too.
	ErrBug = errors.New("the daemon has a bug")

	// The next four are prefixes that kubelet parses out of the message
	// (k8s.io/cri-api/pkg/errors); the text must stay exactly this.

	// ErrRegistryUnavailable: the registry cannot be reached or answers 5xx.
	ErrRegistryUnavailable = errors.New("RegistryUnavailable")
	// ErrSignatureValidationFailed: the signature policy refused the image.
	ErrSignatureValidationFailed = errors.New("SignatureValidationFailed")
	// ErrRROUnsupported: a recursive read-only mount cannot be made.
	ErrRROUnsupported = errors.New("RROUnsupported")
	// ErrImageVolumeMountFailed: an image volume cannot be mounted.
	ErrImageVolumeMountFailed = errors.New("ImageVolumeMountFailed")
)
