package main

import (
	"context"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// fileToSend is a file and what is said of it; which fields count depends on the kind.
type fileToSend struct {
	// In base64.
	Data, Thumbnail, Waveform []byte
	MimeType                  string `json:"mime_type"`
	FileName                  string `json:"file_name"`
	Caption                   string
	Width, Height, Seconds    uint32
	VoiceNote                 bool `json:"voice_note"`
	ViewOnce                  bool `json:"view_once"`
}

// left leaves a file at the media host and answers with the message that has it.
func left(ctx context.Context, client *whatsmeow.Client, kind string, f *fileToSend) (*waE2E.Message, error) {
	sealed := map[string]whatsmeow.MediaType{
		"image": whatsmeow.MediaImage, "sticker": whatsmeow.MediaImage, "video": whatsmeow.MediaVideo,
		"audio": whatsmeow.MediaAudio, "document": whatsmeow.MediaDocument,
	}[kind]
	at, err := client.Upload(ctx, f.Data, sealed)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "image":
		image := &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			URL: &at.URL, DirectPath: &at.DirectPath, MediaKey: at.MediaKey, FileLength: &at.FileLength,
			FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, Mimetype: &f.MimeType,
			Caption: &f.Caption, Width: &f.Width, Height: &f.Height, ViewOnce: &f.ViewOnce,
		}}
		if f.ViewOnce {
			return &waE2E.Message{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: image}}, nil
		}
		return image, nil
	case "video":
		return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{
			URL: &at.URL, DirectPath: &at.DirectPath, MediaKey: at.MediaKey, FileLength: &at.FileLength,
			FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, Mimetype: &f.MimeType,
			Caption: &f.Caption, Width: &f.Width, Height: &f.Height, Seconds: &f.Seconds, JPEGThumbnail: f.Thumbnail,
		}}, nil
	case "audio":
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{
			URL: &at.URL, DirectPath: &at.DirectPath, MediaKey: at.MediaKey, FileLength: &at.FileLength,
			FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, Mimetype: &f.MimeType,
			Seconds: &f.Seconds, PTT: &f.VoiceNote, Waveform: f.Waveform,
		}}, nil
	case "document":
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
			URL: &at.URL, DirectPath: &at.DirectPath, MediaKey: at.MediaKey, FileLength: &at.FileLength,
			FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, Mimetype: &f.MimeType,
			Caption: &f.Caption, FileName: &f.FileName,
		}}, nil
	default:
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
			URL: &at.URL, DirectPath: &at.DirectPath, MediaKey: at.MediaKey, FileLength: &at.FileLength,
			FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, Mimetype: &f.MimeType,
			Width: &f.Width, Height: &f.Height, IsAnimated: proto.Bool(false),
		}}, nil
	}
}

// file is what all messages with a file have.
type file interface {
	whatsmeow.DownloadableMessage
	GetMimetype() string
}

// fileOf is the file of a message and its kind, if it has one.
func fileOf(message *waE2E.Message) (file, string) {
	switch {
	case message.ImageMessage != nil:
		return message.ImageMessage, "image"
	case message.VideoMessage != nil:
		return message.VideoMessage, "video"
	case message.AudioMessage != nil:
		return message.AudioMessage, "audio"
	case message.DocumentMessage != nil:
		return message.DocumentMessage, "document"
	case message.StickerMessage != nil:
		return message.StickerMessage, "sticker"
	}
	return nil, ""
}

// tellFile fetches the file of a message and tells it.
func tellFile(ctx context.Context, client *whatsmeow.Client, event *events.Message, file file, tell func(map[string]any)) {
	data, err := client.Download(ctx, file)
	if err != nil {
		tell(map[string]any{"error": err.Error()})
		return
	}
	fields := map[string]any{"data": data, "mime_type": file.GetMimetype(), "view_once": event.IsViewOnce}
	if it, has := file.(interface{ GetCaption() string }); has {
		fields["caption"] = it.GetCaption()
	}
	if it, has := file.(interface{ GetFileName() string }); has {
		fields["file_name"] = it.GetFileName()
	}
	if it, has := file.(interface{ GetWidth() uint32 }); has {
		fields["width"] = it.GetWidth()
	}
	if it, has := file.(interface{ GetHeight() uint32 }); has {
		fields["height"] = it.GetHeight()
	}
	if it, has := file.(interface{ GetSeconds() uint32 }); has {
		fields["seconds"] = it.GetSeconds()
	}
	if it, has := file.(interface{ GetPTT() bool }); has {
		fields["voice_note"] = it.GetPTT()
	}
	if it, has := file.(interface{ GetWaveform() []byte }); has {
		fields["waveform"] = it.GetWaveform()
	}
	if it, has := file.(interface{ GetJPEGThumbnail() []byte }); has {
		fields["thumbnail"] = it.GetJPEGThumbnail()
	}
	tell(fields)
}
