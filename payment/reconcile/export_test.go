package reconcile

// OnProof has do called each time the files of a proof were made and their day is about to be closed.
func (r *Reconciler) OnProof(do func()) { r.proofMade = do }

// FoundOf is foundOf of a day whose differences have ended so.
func FoundOf(res *Result, ends string) (string, error) { return foundOf(res, endings{ends: ends}) }
