package explore

import "slices"

// LineResult is what a walk through a Line found.
type LineResult struct {
	States      int
	Transitions int
	Err         error    // the first violation, nil for none
	Path        []string // the steps to it
}

// lineNode is one state with the step that reached it first.
type lineNode struct {
	state  LineState
	parent int32
	step   string
}

// Explore walks through all states, the nearest first, until one breaks a promise or limit is passed.
func (m *Line) Explore(limit int) (res LineResult) {
	first := m.first()
	known := map[LineState]struct{}{first: {}}
	nodes := []lineNode{{first, -1, ""}}
	for at := 0; at < len(nodes) && res.Err == nil; at++ {
		from := nodes[at].state
		m.steps(&from, func(step string, next LineState, wrong error) {
			if res.Err != nil {
				return
			}
			res.Transitions++
			if _, seen := known[next]; !seen {
				known[next] = struct{}{}
				nodes = append(nodes, lineNode{next, int32(at), step}) //nolint:gosec // at most limit
				if wrong == nil {
					wrong = m.check(&next)
				}
			}
			if wrong != nil {
				res.Err, res.Path = wrong, append(linePath(nodes, at), step)
			}
		})
		if len(nodes) > limit {
			res.Err = ErrTooBig
		}
	}
	res.States = len(nodes)
	return res
}

// linePath gives the steps that lead to a node.
func linePath(nodes []lineNode, at int) (path []string) {
	for ; nodes[at].parent >= 0; at = int(nodes[at].parent) {
		path = append(path, nodes[at].step)
	}
	slices.Reverse(path)
	return path
}
