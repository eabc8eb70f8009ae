// Settings of the page that are kept in the browser's storage.

export function load(name, otherwise) {
  try {
    return localStorage.getItem(`ivos:${name}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function save(name, value) {
  try {
    localStorage.setItem(`ivos:${name}`, value);
  } catch { /* a private window has no storage */ }
}
