// What Baileys hears of calls, and how it rejects one.

/** Who calls, by the call's id: a rejection names both. */
const callers = new Map()

const WORDS = new Set(['offer', 'accept', 'reject', 'timeout', 'terminate'])

/** Tells of calls. `user` is the part of a JID that names the user, `isNumber` whether that is a number. */
export function listen(socket, say, user, isNumber) {
	socket.ev.on('call', calls => {
		for (const { id, chatId, from, callerPn, status, isVideo, isGroup } of calls) {
			if (!WORDS.has(status)) {
				continue
			}
			callers.set(id, from)
			const number = [callerPn, from, chatId].find(isNumber)
			say('call', { id, what: status, from: user(number), video: !!isVideo, group: !!isGroup })
		}
	})
}

export async function reject(socket, { id }) {
	await socket.rejectCall(id, callers.get(id))
	return { id }
}
