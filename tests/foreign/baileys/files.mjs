// Files that the stories send, and what Baileys makes of those that come; see ../README.md.

import { Agent } from 'node:https'
import { connect } from 'node:net'

import { downloadMediaMessage, extractMessageContent, getContentType } from '@whiskeysockets/baileys'

/**
 * Leads what Baileys asks of media hosts to the network, whatever host it is. The network speaks plainly on the loopback,
 * so what would be inside TLS goes out as it is: downloads by another `fetch`, uploads by the agent that this answers.
 */
export function redirected(address) {
	const { hostname, port } = new URL(`http://${address}`)
	const asked = globalThis.fetch
	globalThis.fetch = (url, how) => asked(Object.assign(new URL(url), { protocol: 'http:', host: address }), how)
	return new (class extends Agent {
		createConnection() {
			return connect(port, hostname)
		}
	})()
}

const bytes = text => Buffer.from(text ?? '', 'base64')

/** What each kind is for Baileys. */
export const FILES = {
	image: ({ data, mime_type, caption, width, height, view_once }) => ({
		image: bytes(data),
		viewOnce: view_once,
		mimetype: mime_type,
		caption,
		width,
		height,
	}),
	// Without a picture Baileys looks for a program that makes one.
	video: ({ data, mime_type, caption, width, height, seconds, thumbnail }) => ({
		video: bytes(data),
		mimetype: mime_type,
		caption,
		width,
		height,
		seconds,
		jpegThumbnail: bytes(thumbnail),
	}),
	audio: ({ data, mime_type, seconds, voice_note, waveform }) => ({
		audio: bytes(data),
		mimetype: mime_type,
		seconds,
		ptt: voice_note,
		waveform: bytes(waveform),
	}),
	document: ({ data, mime_type, caption, file_name }) => ({
		document: bytes(data),
		mimetype: mime_type,
		caption,
		fileName: file_name,
	}),
	sticker: ({ data, mime_type, width, height }) => ({
		sticker: bytes(data),
		mimetype: mime_type,
		width,
		height,
		isAnimated: false,
	}),
}

/** Fetches the file of a message, if it has one, and tells it. */
export async function tellFile(tell, { key, message }) {
	const content = extractMessageContent(message)
	const type = content && getContentType(content)
	const kind = type?.replace(/Message$/, '')
	if (!(kind in FILES)) {
		return
	}
	const file = content[type]
	const text = bytes => (bytes?.length ? Buffer.from(bytes).toString('base64') : '')
	try {
		const data = await downloadMediaMessage({ key, message }, 'buffer', {})
		tell(kind, {
			data: text(data),
			mime_type: file.mimetype,
			caption: file.caption,
			file_name: file.fileName,
			width: file.width,
			height: file.height,
			seconds: file.seconds,
			voice_note: file.ptt,
			waveform: text(file.waveform),
			thumbnail: text(file.jpegThumbnail),
			view_once: file.viewOnce === true,
		})
	} catch (error) {
		tell(kind, { error: String(error) })
	}
}
