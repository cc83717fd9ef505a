// What the account's devices share of a message and nobody else knows; see ../README.md.

/** Stars a message, or deletes it for the account alone. `known` has messages by id. */
export async function mark(socket, { do: what, id, on }, known) {
	const { key } = known.get(id)
	const marks = {
		star: { star: { messages: [{ id, fromMe: key.fromMe }], star: on } },
		delete_for_me: { deleteForMe: { deleteMedia: false, key, timestamp: Math.floor(Date.now() / 1000) } },
	}
	await socket.chatModify(marks[what], key.remoteJid)
	return { id }
}

/** Tells what another device of the account did. */
export function listenToMarks(socket, say) {
	socket.ev.on('messages.update', updates => {
		for (const { key, update } of updates) {
			if (typeof update.starred === 'boolean') {
				say('mark', { id: key.id, what: update.starred ? 'star' : 'unstar' })
			}
		}
	})
	socket.ev.on('messages.delete', ({ keys = [] }) => {
		keys.forEach(({ id }) => say('mark', { id, what: 'delete_for_me' }))
	})
}
