package main

import (
	"context"
	"errors"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// callAct is something to do with a call: `reject` is all that a linked device can.
type callAct struct{ Do, ID string }

// tellCall says what happened to a call. `data` is the offer, where that is what it is.
func (t *teller) tellCall(ctx context.Context, client *whatsmeow.Client, what string, about types.BasicCallMeta, data *waBinary.Node) {
	t.lock.Lock()
	t.callers[about.CallID] = about.From
	t.lock.Unlock()
	video := false
	if data != nil {
		_, video = data.GetOptionalChildByTag("video")
	}
	names := []types.JID{about.CallCreator}
	if !about.CallCreatorAlt.IsEmpty() {
		names = append(names, about.CallCreatorAlt)
	}
	t.say("call", map[string]any{
		"id": about.CallID, "what": what, "from": number(ctx, client, names...),
		"video": video, "group": !about.GroupJID.IsEmpty(),
	})
}

func (t *teller) reject(ctx context.Context, client *whatsmeow.Client, a *callAct) {
	t.lock.Lock()
	from, known := t.callers[a.ID]
	t.lock.Unlock()
	err := errors.New("nobody calls")
	if known {
		err = client.RejectCall(ctx, from, a.ID)
	}
	if err != nil {
		t.say("refused", map[string]any{"do": a.Do, "error": err.Error()})
		return
	}
	t.say("done", map[string]any{"do": a.Do, "id": a.ID})
}
