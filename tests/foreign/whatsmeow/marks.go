package main

import (
	"context"
	"errors"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"google.golang.org/protobuf/proto"
)

// mark is something that the account's devices share of a message: `star`, or `delete_for_me`.
type mark struct {
	Do, ID string
	On     bool
}

func (t *teller) mark(ctx context.Context, client *whatsmeow.Client, m *mark) {
	if err := t.share(ctx, client, m); err != nil {
		t.say("refused", map[string]any{"do": m.Do, "error": err.Error()})
		return
	}
	t.say("done", map[string]any{"do": m.Do, "id": m.ID})
}

func (t *teller) share(ctx context.Context, client *whatsmeow.Client, m *mark) error {
	t.lock.Lock()
	about, known := t.heard[m.ID]
	t.lock.Unlock()
	if !known {
		return errors.New("no such message")
	}
	info := about.Info
	// In a chat of two nobody has to be told who wrote it.
	patch := appstate.BuildStar(info.Chat, info.Chat, m.ID, info.IsFromMe, m.On)
	if m.Do == "delete_for_me" {
		own := "0"
		if info.IsFromMe {
			own = "1"
		}
		patch = appstate.PatchInfo{
			Type: appstate.WAPatchRegularHigh,
			Mutations: []appstate.MutationInfo{{
				Index:   []string{appstate.IndexDeleteMessageForMe, info.Chat.String(), m.ID, own, "0"},
				Version: 3,
				Value: &waSyncAction.SyncActionValue{
					DeleteMessageForMeAction: &waSyncAction.DeleteMessageForMeAction{
						DeleteMedia:      proto.Bool(false),
						MessageTimestamp: proto.Int64(info.Timestamp.Unix()),
					},
				},
			}},
		}
	}
	return client.SendAppState(ctx, patch)
}

// tellStar says that another device of the account starred a message, or no longer.
func (t *teller) tellStar(id string, starred bool) {
	what := "unstar"
	if starred {
		what = "star"
	}
	t.say("mark", map[string]any{"id": id, "what": what})
}
