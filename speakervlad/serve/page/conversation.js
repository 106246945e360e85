export function openConversation(root) { root.append('later'); }
