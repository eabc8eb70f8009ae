// Settings that the browser keeps between visits.

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
  } catch { /* a private window keeps nothing */ }
}
