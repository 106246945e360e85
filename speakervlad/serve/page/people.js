export function openPeople(root) { root.append('later'); }
