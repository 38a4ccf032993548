// Package failpoint names the steps between which a process may die, so that
// tests can stop or kill one exactly there.
//
// Without the build tag failpoints, as in every release, [Hit] is empty. With
// it the steps are armed by the environment:
//
//	ORDERD_FAILPOINTS="place.committed=block;close.answered=kill@3"
//
// and, with ORDERD_FAILPOINTS_ADDR (loopback only), while the process runs:
//
//	GET /                      all steps: how often reached, what is armed, how many are blocked
//	PUT /place.committed       arms it with the action in the body
//	DELETE /place.committed    disarms it and lets go who is blocked there
//
// An action is block (until it is disarmed, else for ever), kill (SIGKILL to
// itself, which nobody recovers from), pause(200ms), or count (only reported).
// It is taken at every hit, or with @n at the n-th hit since the start alone.
// Before it is taken a line "NAME ACTION HIT" is appended to the file that
// ORDERD_FAILPOINTS_LOG names: so a test knows of a process that is dead.
//
// It imports nothing of ours, so that everybody may import it. It is the one
// package with state of its own and an init: a step has no owner to hand it to.
package failpoint
